"""Buckets of a table: what is refused, with file and line, and what they are no part of."""

from pathlib import Path

import pytest
from project_edits import GDP, KPI, edit, errors_of, line_of, project

from etl_assets.project import load_project

__all__ = ["project"]
BUCKETS = "  buckets: {of: customer_id, count: 16}\n"
# what is edited, the buckets, the message
CASES = {
    "no such column": (GDP, "{of: customer, count: 16}", "buckets of 'customer': not a column of gdp"),
    "a boolean": (GDP, "{of: status, count: 16}", "buckets of 'status', a boolean: choose a column of many values"),
    "one bucket": (GDP, "{of: customer_id, count: 1}", "gdp.buckets.count: 1 is not val"),
    "too many": (GDP, "{of: customer_id, count: 1025}", "gdp.buckets.count: 1025 is not val"),
    "a table that waits for a person": (KPI, "{of: nation, count: 2}", "a kpi or one with period_close, has no"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_buckets_that_cant_be_are_told_with_their_line(project: Path, case: str) -> None:
    """Before anything is written."""
    file, buckets, message = CASES[case]
    edit(project / file, "  version: 1\n", f"  version: 1\n  buckets: {buckets}\n")
    if case == "a boolean":
        edit(project / file, "status: {type: string", "status: {type: boolean")
    place = f"{file}:{line_of(project / file, '  buckets:')}: "
    assert any(place in e and message in e for e in errors_of(project)), errors_of(project)


def test_a_table_with_a_column_of_the_name_of_its_buckets_is_refused(project: Path) -> None:
    """Iceberg would refuse it when the first run makes the table."""
    edit(project / GDP, "  version: 1\n", f"  version: 1\n{BUCKETS.replace('customer_id', 'part_id')}")
    edit(project / GDP, "    customer_id:", "    part_id_bucket_16:")
    assert any("column 'part_id_bucket_16' has the name of its buckets; rename it" in e for e in errors_of(project))


def test_buckets_are_no_part_of_the_logic(project: Path) -> None:
    """They decide where rows lie, not which there are: nothing is computed again because of them."""
    before = load_project(project).tables
    edit(project / GDP, "  version: 1\n", f"  version: 1\n{BUCKETS}")
    after = load_project(project).tables
    assert after["gdp.gdp_sales"].contract.buckets is not None
    assert {n: t.logic_version for n, t in after.items()} == {n: t.logic_version for n, t in before.items()}
