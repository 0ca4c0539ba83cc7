"""Lookups that fit neither the tables nor the SQL are errors with file and line."""

from pathlib import Path

import pytest
from project_edits import edit, errors_of, line_of

from etl_assets.project import load_project
from etl_assets.project_binding import binding_errors
from tests.integration.lookups_project import write_lookups

SALES, SALES_SQL = "datasets/sales/manifest.yaml", "datasets/sales/sales.sql"
RATES, REVENUE = "datasets/rates/manifest.yaml", "datasets/revenue/manifest.yaml"
LOOKUP = "      {from: silver.orders,"

# fmt: off
# what is edited, from, to, the text on whose line the error is, the message
CASES = {
    "unknown table": (
        SALES, "    silver.rates:", "    silver.rate:", "    silver.rate:",
        "gdp.sales looks up the unknown table 'silver.rate'; did you mean 'silver.rates'? Valid: ",
    ),
    "a table that may not be read": (
        SALES, "    silver.rates:", "    bronze.rates:", "    bronze.rates:",
        "gdp.sales may not look up 'bronze.rates'; valid: silver.lines, silver.orders, silver.rates",
    ),
    "not declared": (
        SALES_SQL, "join lookup.rates", "join lookup.rate", "    left join lookup.rate ",
        "unknown table 'lookup.rate': declare it as a lookup; did you mean 'lookup.rates'? Valid: calendar.period,",
    ),
    "not read": (
        SALES_SQL, "lookup.rates as r", "calendar.period as r", "    silver.rates:",
        "lookup lookup.rates is not read by the SQL: read it or take it away",
    ),
    "read as a whole": (
        SALES_SQL, "left join lookup.rates", "left join silver.rates as x on true left join lookup.rates",
        "    left join silver.rates", "silver.rates is declared as a lookup: read lookup.rates, or take that away",
    ),
    "with partitions": (
        RATES, "source:", "partitions: {by: rate_date, every: month}\nsource:", "    silver.rates:",
        "silver.rates has partitions: a lookup finds rows in a table without",
    ),
    "from another table": (
        SALES, "from: silver.orders", "from: silver.order", LOOKUP[:-8],
        "from 'silver.order' is not an input that the SQL reads for the same period and partitions; did you mean",
    ),
    "from a window": (
        SALES, "  lookups:", "  inputs: {silver.orders: {periods: [-1, 0]}}\n  lookups:", LOOKUP,
        "from 'silver.orders' is not an input that the SQL reads for the same period and partitions; did you mean",
    ),
    "on an unknown column": (
        SALES, "currency: code", "currenc: code", LOOKUP,
        "on 'currenc' is not a column of silver.orders; did you mean 'currency'? Valid: order_id,",
    ),
    "to an unknown column": (
        SALES, "currency: code", "currency: cod", LOOKUP,
        "on 'cod' is not a column of silver.rates; did you mean 'code'? Valid: code,",
    ),
    "on another type": (
        SALES, "currency: code", "order_id: code", LOOKUP,
        "on 'order_id' is a bigint, 'code' of silver.rates a string: they must be of one type",
    ),
    "as of a text": (
        SALES, "as_of: {order_date: rate_date}", "as_of: {currency: note}", LOOKUP,
        "as_of 'currency' is a string, 'note' of silver.rates a string; valid: both date or both timestamptz",
    ),
    "as of two kinds of time": (
        SALES, "as_of: {order_date: rate_date}", "as_of: {order_date: rate}", LOOKUP,
        "as_of 'order_date' is a date, 'rate' of silver.rates a decimal(18,6)",
    ),
    "unknown column": (
        SALES, "columns: [rate]", "columns: [rat]", LOOKUP,
        "column 'rat' is not a column of silver.rates; did you mean 'rate'? Valid: code, rate_date, rate, note",
    ),
    "column twice": (
        SALES, "columns: [rate]", "columns: [rate, rate]", LOOKUP, "column 'rate' is given twice: keep one",
    ),
    "several rows": (
        SALES, "as_of: {order_date: rate_date}, days_back: 10, ", "", "    silver.rates:",
        "several rows of silver.rates could be found, whose key is code, rate_date: name rate_date in on, as_of or",
    ),
    "unknown latest": (
        SALES, "as_of: {order_date: rate_date}, days_back: 10, ", "latest_by: rate_day, ", LOOKUP,
        "latest_by 'rate_day' is not a column of silver.rates; did you mean 'rate_date'?",
    ),
    "as of and latest": (
        SALES, "days_back: 10", "latest_by: rate_date", "    silver.rates:",
        "a lookup has as_of or latest_by, not both",
    ),
    "days back from nothing": (
        SALES, "as_of: {order_date: rate_date}", "latest_by: rate_date", "    silver.rates:",
        "days_back needs as_of: the day back from which",
    ),
    "column of the lookup": (
        SALES_SQL, "r.rate\n", "r.note as rate\n", "    select l.order_id", "unknown column 'r.note'; valid: currency,",
    ),
}
# fmt: on


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Sales in euro by a lookup into the rates."""
    return write_lookups(tmp_path / "project")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_error_names_file_line_and_what_is_valid(
    project: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str, str, str]
) -> None:
    """Somebody who reads the line can go there and knows what to write."""
    monkeypatch.chdir(project)
    file, old, new, at, message = case
    edit(project / file, old, new)
    found = errors_of(project)
    line = next((line_of(project / f, at) for f in (file, SALES) if at in (project / f).read_text()), 0)
    assert any(f":{line}: " in e and message in e for e in found), f"{line}: {message} not among {found}"


def test_a_name_that_would_stand_for_two_columns_is_refused(project: Path) -> None:
    """lookup.rates.currency must be the order's."""
    edit(project / RATES, "rate_date: date, rate", "rate_date: date, currency: string, rate")
    edit(project / RATES, "    note: {", "    currency: {description: Base}\n    note: {")
    edit(project / SALES, "columns: [rate]", "columns: [rate, currency]")
    assert any("'currency' of silver.rates has the name of a column of silver.orders" in e for e in errors_of(project))


def test_a_cycle_through_a_lookup_is_found(project: Path) -> None:
    """A table that is looked up is an input like any other: it is made before."""
    edit(project / SALES, "    silver.rates:\n", "    gdp.other:\n")
    edit(project / SALES_SQL, "lookup.rates", "lookup.other")
    other = project / "datasets/other"
    other.mkdir()
    (other / "other.sql").write_text("select currency as code, order_date as rate_date, 1.5 as rate from gdp.sales\n")
    (other / "manifest.yaml").write_text(
        "dataset: other\nowner: team:test\ntenant: acme\ndescription: Rates of sales.\n"
        "gdp:\n  key: [code, rate_date]\n  sql: other.sql\n  inputs: {gdp.sales: {partitions: all}}\n"
        '  columns: {code: string, rate_date: date, rate: "decimal(18,6)"}\n'
    )
    assert any("cycle: " in e and "gdp.other" in e for e in errors_of(project))


def test_a_lookup_is_part_of_the_graph_and_of_the_logic(project: Path) -> None:
    """Rates are made before the sales that look them up; ten days or twenty are not the same sales."""
    loaded = load_project(project)
    sales = loaded.tables["gdp.sales"]
    assert list(loaded.tables).index("silver.rates") < list(loaded.tables).index("gdp.sales")
    assert sales.inputs == ("silver.lines", "silver.orders")
    assert sales.upstream == (*sales.inputs, "silver.rates")
    edit(project / SALES, "days_back: 10", "days_back: 20")
    assert load_project(project).tables["gdp.sales"].logic_version != sales.logic_version


def test_the_engine_binds_what_is_looked_up(project: Path) -> None:
    """Types of a looked-up column are those of its contract: a loss of digits is found without data."""
    assert list(binding_errors(load_project(project))) == []
    edit(project / SALES_SQL, " as amount_eur", " + rate as amount_eur")
    (error,) = binding_errors(load_project(project))
    assert "column amount_eur is DECIMAL(18,6) and the contract says decimal(18,2)" in str(error)
