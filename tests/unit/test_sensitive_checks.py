"""What can't work with covered values is refused before anything runs, with file, line and what to do."""

import shutil
from pathlib import Path

import pytest
from project_edits import edit, errors_of, prove_told

from etl_assets.column_lineage import ColumnLineage
from etl_assets.project import load_project
from etl_resources.errors import PermanentError
from tests.projects import PEOPLE

KEY = "HASH_KEY"
PLATFORM = "platform.yaml"
ACCOUNTS, VISITORS = "datasets/accounts/manifest.yaml", "datasets/visitors/manifest.yaml"
GDP = "datasets/gdp_people/manifest.yaml"
PHONE = "    phone: {type: string, sensitive: mask}\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the people project, as the working directory."""
    made = Path(shutil.copytree(PEOPLE, tmp_path / "people"))
    monkeypatch.chdir(made)
    return made


# fmt: off
# what is edited, from, to, the text on whose line the error is, the message
CASES = {
    "a partition column": (
        ACCOUNTS, "    opened: date\n", "    opened: {type: date, sensitive: mask}\n", "    opened: {type",
        "column 'opened' can't be `sensitive: mask`: it places rows in partitions, by its value",
    ),
    "a change column": (
        ACCOUNTS, "  extract: window\n", "  extract: window\n  change_column: born\n", "    born: {type",
        "column 'born' can't be `sensitive: mask`: it tells what changed, by its value",
    ),
    "a masked key": (
        VISITORS, "    id: bigint\n", "    id: {type: string, sensitive: mask}\n", "    id: {type",
        "it is of the key, by which rows are told apart; valid: hash",
    ),
    "a hashed key of partitions": (
        ACCOUNTS, "    id: bigint\n", "    id: {type: bigint, sensitive: hash}\n", "    id: {type",
        "it is of the key, by which rows that move between partitions are looked up in the source",
    ),
    "a masked number": (
        VISITORS, "ssn: {type: bigint, sensitive: hash}", "ssn: {type: bigint, sensitive: mask}", "    ssn: {type",
        "a bigint has no mask that isn't taken for a value; valid: drop, hash",
    ),
    "a hashed boolean": (
        VISITORS, "note: string", "note: {type: boolean, sensitive: hash}", "    note: {type",
        "the hashes of a boolean are soon told apart; valid: drop",
    ),
    "a dropped column that was renamed": (
        VISITORS, "sensitive: drop}", "sensitive: drop, renamed_from: pay}", "    salary: {type",
        "what was captured as pay stays in the table; declare that one as dropped, too",
    ),
    "no key": (
        PLATFORM, 'hash_key: {secret: "env:HASH_KEY"}\n', "", "",
        "column 'email' is hashed, and platform.yaml names no key: add `hash_key: {secret: …}`, e.g. \"env:HASH_KEY\"",
    ),
    "sensitive beyond the source": (
        VISITORS, "    phone: {}\n", "    phone: {sensitive: mask}\n", "    phone: {sensitive",
        "column 'phone': sensitive belongs into source, where its values are covered",
    ),
    "a dropped column in silver": (
        VISITORS, "    phone: {}\n", "    phone: {}\n    salary: {}\n", "    salary: {}",
        "column 'salary' is `sensitive: drop` in source: its values never enter bronze; take it out, or hash or mask",
    ),
    "a number made of hashes": (
        VISITORS, "    ssn: {}\n", "    ssn: {type: bigint}\n", "    ssn: {type: bigint}",
        "column 'ssn' is a bigint, and what it is made of is hashed: its type is string",
    ),
    "a rule on masks": (
        VISITORS, "    born: {}\n", '    born: {check: {ge: "1900-01-01"}}\n', "    born: {check",
        "check of 'born': its values are covered (mask), the rule would judge what covers them; take it away",
    ),
    "a rule on hashes": (
        VISITORS, "reason: no email}", 'reason: no email, check: {matches: ".+@.+"}}', "    email: {nullable",
        "check of 'email': its values are covered (hash)",
    ),
    "a key of masks": (
        VISITORS, "silver:\n  key: [id]", "silver:\n  key: [id, phone]", "  key: [id, phone]",
        "column 'phone' is made of masked values, and it is of the key: hash it in its source",
    ),
    "a check of masks": (
        VISITORS, "serving:", "  checks:\n    - {unique: [phone]}\nserving:", "    - {unique",
        "column 'phone' is made of masked values, and a check is of its values (unique)",
    ),
    "rules and filters of masks": (
        VISITORS, "serving:",
        "  rules:\n    - {name: adult, expression: born < date '2006-01-01'}\nserving:", "    - {name: adult",
        "column 'born' is made of masked values, and rule 'adult' is of its values",
    ),
    "a target's key of masks": (
        VISITORS, "{elasticsearch: visitors}", "{elasticsearch: visitors, key: [phone]}", "  - {elasticsearch",
        "column 'phone' is made of masked values, and it is of a target's key",
    ),
    "a hash that refers to clear values": (
        GDP, "  columns:\n",
        "  references:\n    silver.plain: {from: silver.customers, on: {email: email}}\n  columns:\n",
        "    silver.plain",
        "gdp.gdp_people.email is hashed and silver.plain.email isn't: they are never equal; hash both in their sources",
    ),
}
# fmt: on


@pytest.mark.parametrize(("file", "old", "new", "at", "message"), CASES.values(), ids=CASES)
def test_what_cant_work_is_refused(project: Path, file: str, old: str, new: str, at: str, message: str) -> None:
    """A hash is no number, a mask tells nobody apart, and what was dropped is nowhere."""
    if at:
        prove_told(project, file, old, new, at, message)
    else:
        edit(project / file, old, new)
        assert any(message in e for e in errors_of(project))


def test_control_totals_hold_no_sensitive_column(project: Path) -> None:
    """They are kept as they come from the system of record."""
    check = '  checks:\n    - {reconcile: {system: erp, sql: totals.sql, compare: {id: "0"}, by: [id]}}\n'
    edit(project / ACCOUNTS, "silver:\n", "silver:\n" + check)
    sql = project / "datasets/accounts/totals.sql"
    sql.write_text(
        "select %(start)s::date as opened, id,\n  salary from erp.accounts "
        "where opened >= %(start)s and opened < %(end)s"
    )
    assert any(
        "totals.sql:2: column 'salary' is sensitive, and control totals are kept in clear: leave it out" in e
        for e in errors_of(project)
    )


def test_marks_follow_the_sql(project: Path) -> None:
    """Through layers, expressions and joins, to what is served."""
    columns = ColumnLineage(load_project(project))
    marks = {
        "silver.customers.born": "mask",
        "gdp.gdp_people.email": "hash",
        "gdp.gdp_people.domain": "made of hash",
        "gdp.gdp_people.visitor": None,
        "elasticsearch.people.domain": "made of hash",
        "erp.accounts.salary": "drop",
        "silver.plain.email": None,
    }
    assert {name: columns.sensitive(columns.column(name)) for name in marks} == marks


def test_the_mode_and_the_key_belong_to_the_logic(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another key or mode makes bronze anew. A column that is dropped from the beginning is none."""

    def version() -> str:
        return load_project(project).tables["bronze.visitors"].logic_version

    monkeypatch.setenv(KEY, "a" * 32)
    first = version()
    monkeypatch.setenv(KEY, "b" * 32)
    assert version() != first
    monkeypatch.setenv(KEY, "a" * 32)
    assert version() == first
    edit(project / VISITORS, '    salary: {type: "decimal(18,2)", sensitive: drop}\n', "")
    assert version() == first
    edit(project / VISITORS, PHONE, PHONE.replace("mask", "hash"))
    assert version() != first


def test_a_key_that_changed_under_running_definitions_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run token would name another key than the one that hashes."""
    from etl_assets.graph.runtime import Runtime

    monkeypatch.setenv(KEY, "a" * 32)
    runtime = Runtime(load_project(project))
    node = runtime.project.tables["bronze.visitors"]
    assert runtime.hash_key(node) is not None
    assert runtime.hash_key(runtime.project.tables["bronze.plain"]) is None
    monkeypatch.setenv(KEY, "b" * 32)
    with pytest.raises(PermanentError, match="env:HASH_KEY, the key of hashed columns, is another one than when"):
        runtime.hash_key(node)
