"""Rules that fit neither the contract nor the engine are errors with file and line."""

from pathlib import Path

import pytest
from project_edits import LINES, edit, errors_of, project, prove_told

from etl_assets.project import load_project

__all__ = ["project"]  # a fixture is used by its name

KEY = "  key: [order_id, line_number]\n  sql: silver.sql\n"
RULE = KEY + "  rules:\n    - {{name: shipped, expression: {}, severity: {}}}\n"
GE = "check: {ge: 1}"
# fmt: off
# what is edited, from, to, the text on whose line the error is, the message
CASES = {
    "expression": (
        LINES, KEY, RULE.format("tax <= discoun", "reject"), "    - {name: shipped",
        "expression of rule 'shipped': unknown column 'discoun'; did you mean 'discount'? Valid: order_id,",
    ),
    "a name twice": (
        LINES, KEY, RULE.format("tax <= discount", "reject") + "    - {name: shipped, expression: tax > 0}\n",
        "    - {name: shipped, expression: tax > 0", "rule 'shipped' is there twice: give each a name of its own",
    ),
    "two checks of a name": (
        LINES, GE, "check: [{ge: 1, severity: warn}, {ge: 2, severity: error}]", "    line_number: {nullable",
        "two checks are called 'line_number_ge': give one of them another `name`",
    ),
    "the name of a check of the platform": (
        LINES, GE, "check: {ge: 1, severity: warn, name: unique_key}", "    line_number: {nullable",
        "a check is called 'unique_key', as one that the platform makes itself",
    ),
    "a length of a number": (
        LINES, GE, "check: [{ge: 1}, {length: {ge: 1}}]", "    line_number: {nullable",
        "check of 'line_number': length needs a column of type string, this is int",
    ),
    "a bound in a list": (
        LINES, GE, "check: [{ge: 1},\n      {le: few}]", "      {le: few}",
        "check of 'line_number': le 'few' is not a value of type int",
    ),
}
# fmt: on


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_rule_that_cannot_be_kept_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str, str, str]
) -> None:
    """Before a run, with the place in the file."""
    monkeypatch.chdir(project)
    prove_told(project, *case)


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        (GE, "check: [{ge: 1}]", False),
        (GE, "check: {ge: 1, severity: reject}", False),
        (GE, "check: [{ge: 1}, {le: 9}]", True),
        (GE, "check: {ge: 1, severity: warn}", True),
        (KEY, RULE.format("tax <= discount", "reject"), True),
    ],
)
def test_a_rule_decides_the_logic_version(project: Path, old: str, new: str, changes: bool) -> None:
    """Another rule is another table; another way of writing it is not."""
    before = load_project(project).tables["silver.sales_lines"].logic_version
    edit(project / LINES, old, new)
    assert (load_project(project).tables["silver.sales_lines"].logic_version != before) is changes


QUERY = "datasets/sales_lines/dear.sql"
CHECKS = '    - {rejected_share: {le: "0.05"}}\n'
# fmt: off
# the check, the text on whose line the error is, the message
CHECK_CASES = {
    "unique": ("{unique: [order_id, lin]}", "    - {unique", "unique: 'lin' is not a column of silver.sales_lines"),
    "freshness": (
        "{freshness: {column: tax, within_days: 3}}", "    - {freshness",
        "freshness: 'tax' is not a date or timestamptz of silver.sales_lines; valid: order_date, updated_at",
    ),
    "change": ("{rows_change: {le: much}}", "    - {rows_change", "rows_change: le 'much' is not valid"),
    "missing file": ("{sql: cheap.sql}", "    - {sql: cheap", "cheap.sql doesn't exist in datasets/sales_lines"),
    "two kinds": ("{unique: [tax], sql: dear.sql}", "    - {unique", "a check names exactly one of rejected_share,"),
}
QUERY_CASES = {
    "unknown column": ("select order_id from silver.sales_lines where ta > 1", "unknown column 'ta'; did you mean"),
    "another table": (
        "select order_id from silver.sales_orders", "may not read 'silver.sales_orders': a check reads its table",
    ),
    "writing": ("delete from silver.sales_lines", "must be exactly one SELECT"),
    "differs": ("select order_id from bronze.sales_lines where tax > random()", "random isn't allowed"),
}
# fmt: on


@pytest.mark.parametrize("case", CHECK_CASES.values(), ids=CHECK_CASES)
def test_a_check_that_fits_nothing_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str]
) -> None:
    """A check that could never be made must not wait for the night."""
    monkeypatch.chdir(project)
    prove_told(project, LINES, CHECKS, f"{CHECKS}    - {case[0]}\n", *case[1:])


@pytest.mark.parametrize("case", QUERY_CASES.values(), ids=QUERY_CASES)
def test_the_sql_of_a_check_only_reads_what_the_table_reads(
    project: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str]
) -> None:
    """Anything else would be an input that the run token doesn't name."""
    monkeypatch.chdir(project)
    edit(project / LINES, CHECKS, f"{CHECKS}    - {{sql: dear.sql, severity: warn}}\n")
    (project / QUERY).write_text(f"-- dear\n{case[0]}\n")
    found = errors_of(project)
    assert any(e.startswith(f"{QUERY}:2: ") and case[1] in e for e in found), found
