"""The table of docs/schema-evolution.md, cell by cell: what each mode makes of each change, for each kind of source."""

import json
from collections.abc import Sequence
from datetime import date
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from etl_assets.cli.main import app
from etl_resources.errors import PermanentError
from etl_resources.failpoints import FailpointError
from etl_resources.ledger.ledger import Ledger
from tests.integration.drifting import BEFORE, KINDS, MONTHS, POSTGRES_TYPES, Make, Row

pytest_plugins = ["tests.lake", "tests.integration.drifting"]

MODES = (None, "freeze", "evolve", "quarantine")
TYPED = ("postgres", "parquet")
OPTIONAL = ("json_lines", "http_api")
ALIKE, JUDGED_CHANGES = ("csv", "http_api"), ("widened", "changed")
"""Kinds whose values are judged by the same code as those of JSON Lines; these cells are long."""


def changed(change: str) -> tuple[Sequence[Row], dict[str, str]]:
    """The rows after a change, and the types that a database gives their columns."""
    first, second = (dict(r) for r in BEFORE)
    if change == "added":
        return [first | {"extra": None}, second | {"extra": "x"}], POSTGRES_TYPES | {"extra": "text"}
    if change == "widened":
        third = {"id": 3, "day": date(2024, 2, 16), "qty": 3_000_000_000, "note": "c"}
        return [first, second, third], POSTGRES_TYPES | {"qty": "bigint"}
    if change == "missing":
        return [{k: v for k, v in r.items() if k != "note"} for r in (first, second)], POSTGRES_TYPES
    third = second | {"id": 3, "qty": None}
    return [first | {"qty": None}, second | {"qty": "many"}, third], POSTGRES_TYPES | {"qty": "text"}


def expected(kind: str, mode: str | None, change: str) -> str:
    """The action, as docs/schema-evolution.md has it."""
    if change == "added":
        return {"freeze": "refused", "evolve": "adopted"}.get(mode or "", "left out")
    if change == "missing":
        by_default = "read as null" if kind in OPTIONAL else "refused"
        return by_default if mode is None else "read as null" if mode == "evolve" else "refused"
    if mode == "quarantine" or (mode is None and kind not in TYPED):
        return "rows rejected"
    return "adopted" if mode == "evolve" and change == "widened" else "refused"


ROWS: dict[tuple[str, str], list[tuple[Any, ...]]] = {
    ("added", "left out"): [(1, 10, "a"), (2, 20, "b")],
    ("added", "adopted"): [(1, 10, "a", None), (2, 20, "b", "x")],
    ("missing", "read as null"): [(1, 10, None), (2, 20, None)],
    ("widened", "adopted"): [(1, 10, "a"), (2, 20, "b"), (3, 3_000_000_000, "c")],
    ("widened", "rows rejected"): [(1, 10, "a"), (2, 20, "b")],
    ("changed", "rows rejected"): [(1, None, "a"), (3, None, "b")],
}


CELLS = [
    pytest.param(kind, mode, change, marks=[pytest.mark.long] if kind in ALIKE and change in JUDGED_CHANGES else [])
    for kind in KINDS
    for mode in MODES
    for change in ("added", "widened", "missing", "changed")
]


@pytest.mark.parametrize(("kind", "mode", "change"), CELLS)
def test_each_mode_does_what_the_table_says(make: Make, kind: str, mode: str | None, change: str) -> None:
    """Published is exactly what the cell says; the change is recorded once; the same source again is nothing new."""
    drift = make(kind, mode)
    drift.deliver(BEFORE)
    drift.statuses()
    rows, types = changed(change)
    drift.deliver(rows, types=types)
    action = expected(kind, mode, change)

    if action == "refused":
        with pytest.raises(PermanentError, match=r"What is published stays as it is"):
            drift.capture()
        assert drift.published() == [(1, 10, "a"), (2, 20, "b")]
    else:
        outcomes = drift.capture()
        assert not any(o.error for o in outcomes), outcomes
        columns = "id, qty, note, extra" if (change, action) == ("added", "adopted") else "id, qty, note"
        assert drift.published(columns) == ROWS[change, action]
        assert drift.rejected() == (len(rows) - len(ROWS[change, action]))
        assert any(f": {action}" in str(o.metadata.get("schema_changes")) for o in outcomes)
        assert set(drift.statuses().values()) == {"pruned"}
        if action == "adopted":
            drift.prove_whole()
    recorded = [(c.kind, c.action, c.mode) for c in drift.changes()]
    assert recorded == [(change, action, mode)]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("mode", "action", "rows"),
    [
        (None, "refused", [(1, 10, "a"), (2, 20, "b")]),
        ("freeze", "refused", [(1, 10, "a"), (2, 20, "b")]),
        ("evolve", "read as null", [(1, 10, "a"), (2, 20, "b"), (3, 30, None)]),
        ("quarantine", "rows rejected", [(1, 10, "a"), (2, 20, "b")]),
    ],
)
def test_a_column_that_some_files_lack(
    make: Make, kind: str, mode: str | None, action: str, rows: list[tuple[Any, ...]]
) -> None:
    """Their rows are refused with the delivery, null, or set aside; those of the other files are as before."""
    drift = make(kind, mode)
    drift.deliver(BEFORE)
    drift.statuses()
    drift.deliver([{"id": 3, "day": date(2024, 3, 1), "qty": 30}], name="b")

    if action == "refused":
        with pytest.raises(PermanentError, match=r"note \(string\) is missing in d_\w+/b\. "):
            drift.capture()
    else:
        drift.statuses()

    assert drift.published() == rows
    assert drift.rejected() == (1 if action == "rows rejected" else 0)
    assert [(c.column, c.kind, c.action) for c in drift.changes()] == [("note", "missing", action)]
    drift.prove_whole()


@pytest.mark.parametrize(("kind", "mode"), [*((k, "evolve") for k in KINDS), *(("json_lines", m) for m in MODES[:2])])
def test_a_rename_is_refused_until_it_is_declared_and_then_keeps_its_values(
    make: Make, kind: str, mode: str | None
) -> None:
    """Dropped and added it would lose what was published under the old name, without a word."""
    drift = make(kind, mode)
    drift.deliver(BEFORE)
    drift.statuses()
    renamed = [{"remark" if k == "note" else k: v for k, v in r.items()} for r in BEFORE]
    drift.deliver(renamed, types=POSTGRES_TYPES | {"remark": "text"})

    with pytest.raises(PermanentError, match=r"declare remark with renamed_from: note; if not, take note out"):
        drift.capture()
    del drift.columns["note"]
    drift.columns["remark"] = "string"
    with pytest.raises(PermanentError, match=r"declare remark with renamed_from: note; if not, take note out"):
        drift.capture()
    assert drift.published() == [(1, 10, "a"), (2, 20, "b")]

    drift.columns["remark"] = {"type": "string", "renamed_from": "note"}
    drift.statuses(MONTHS[0])
    assert drift.published("id, remark") == [(1, "a"), (2, "b")], "also in the month that wasn't captured again"
    drift.statuses()
    assert [(c.kind, c.action, c.before, c.after) for c in drift.changes()] == [
        ("renamed", "refused", "note", "remark"),
        ("renamed", "adopted", "note", "remark"),
    ]
    drift.prove_whole()


def test_only_partitions_with_values_in_an_added_column_are_captured_again(make: Make) -> None:
    """A column of three years that has values since yesterday must not recompute three years."""
    drift = make("postgres", "evolve")
    drift.deliver(BEFORE)
    drift.statuses()
    drift.lake.erp(f"alter table erp.{drift.name} add extra numeric(12,2)")
    assert drift.statuses() == {"2024-01": "pruned", "2024-02": "pruned"}

    drift.lake.erp(f"update erp.{drift.name} set extra = 1.5 where id = 2")

    assert drift.statuses() == {"2024-01": "pruned", "2024-02": "published"}
    assert [(i, str(x)) for i, x in drift.published("id, extra")] == [(1, "None"), (2, "1.50")]
    assert [(c.column, c.after) for c in drift.changes()] == [("extra", "decimal(12,2)")]
    drift.prove_whole()


def test_columns_without_a_type_here_are_added_as_text(make: Make) -> None:
    """JSON has no type in a manifest; what can't be a column's name is left out, and said so."""
    drift = make("postgres", "evolve")
    drift.deliver(BEFORE)
    drift.statuses()
    drift.lake.erp(f"""alter table erp.{drift.name} add doc json default '{{"a": 1}}', add "Name" text default 'x'""")

    assert set(drift.statuses().values()) == {"published"}
    assert drift.published("id, doc") == [(1, '{"a": 1}'), (2, '{"a": 1}')]
    with drift.lake.environment(ETL_PROJECT=str(drift.folder)):
        told = CliRunner().invoke(app, ["schema-changes", drift.name, "--json"], catch_exceptions=False)
        shown = CliRunner().invoke(app, ["schema-changes", drift.name], catch_exceptions=False)
    changes = [(c["column"], c["action"], c["note"], c["mode"]) for c in json.loads(told.stdout)["changes"]]
    assert changes == [
        ("doc", "adopted", None, "evolve"),
        ("Name", "left out", "no name for a column here", "evolve"),
    ]
    assert " doc added: string: adopted; mode evolve, run " in shown.stdout


def test_what_was_left_out_is_added_when_the_mode_says_so(make: Make) -> None:
    """The decision may be taken later; columns that were there from the beginning stay left out."""
    drift = make("csv", "quarantine")
    drift.deliver([{**r, "old": 0} for r in BEFORE])
    drift.statuses()
    drift.deliver([{**r, "old": 0, "extra": i} for i, r in enumerate(BEFORE)])
    drift.statuses()
    drift.mode = "evolve"

    drift.statuses()

    assert drift.published("*")[0][:5] == (1, date(2024, 1, 15), 10, "a", drift.published("meta_run_id")[0][0])
    assert drift.published("id, extra") == [(1, "0"), (2, "1")]


def test_what_is_made_of_bronze_reads_it_as_declared(make: Make) -> None:
    """A wider or a new column reaches nobody who didn't ask for it, and no value arrives as another one."""
    drift = make("postgres", "evolve")
    drift.deliver(BEFORE)
    drift.statuses()
    rows, types = changed("widened")
    drift.deliver([{**r, "extra": "x"} for r in rows], types=types | {"extra": "text"})
    drift.statuses()

    runtime = drift.runtime()
    with Ledger.open(runtime.settings) as ledger:
        pinned = runtime.store.pin(ledger, runtime.addresses[drift.bronze])
    fitting = drift.engine.execute(f"select * exclude (meta_run_id) from {pinned.scan(MONTHS[:1])}")
    assert [(c[0], str(c[1])) for c in fitting.description] == [
        ("id", "BIGINT"), ("day", "DATE"), ("qty", "INTEGER"), ("note", "VARCHAR"),
    ]  # fmt: skip
    with pytest.raises(duckdb.ConversionException, match='column "qty" from type BIGINT to INTEGER'):
        drift.engine.execute(f"select sum(qty) from {pinned.scan(MONTHS)}").fetchall()


def test_without_a_column_that_is_needed_nothing_is_captured(make: Make) -> None:
    """Null in the key, or in what silver needs, is no row."""
    drift = make("json_lines", "evolve", silver="silver: {key: [id], columns: {id: {}, note: {nullable: false}}}\n")
    drift.deliver(BEFORE)
    drift.statuses()
    drift.deliver([{k: v for k, v in r.items() if k != "note"} for r in BEFORE])

    with pytest.raises(PermanentError, match=r"note \(string\) is missing in the source, and silver needs it"):
        drift.capture()
    assert drift.published() == [(1, 10, "a"), (2, 20, "b")]


@pytest.mark.parametrize("kind", ["postgres", "json_lines"])
def test_a_run_that_dies_between_record_and_table_is_made_good_by_the_next(
    make: Make, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is what the table follows: a column that is in it and not in the table would never be captured."""
    drift = make(kind, "evolve")
    drift.deliver(BEFORE)
    drift.statuses()
    rows, types = changed("added")
    drift.deliver(rows, types=types)
    with monkeypatch.context() as m:
        m.setattr("etl_assets.graph.source_schema.failpoint", _die)
        with pytest.raises(FailpointError):
            drift.capture()
    assert drift.published() == [(1, 10, "a"), (2, 20, "b")]
    drift.prove_whole()

    drift.statuses()

    assert drift.published("id, qty, note, extra") == ROWS["added", "adopted"]
    assert len(drift.changes()) == 1
    drift.prove_whole()


def _die(*_: object) -> None:
    raise FailpointError
