"""What transforms read and give: an edit of the project is an error with file, line and valid values."""

from pathlib import Path

import pytest
from project_edits import (
    CONTROL,
    GDP,
    GDP_SQL,
    KPI_SQL,
    LINES_SQL,
    ORDERS,
    ORDERS_SQL,
    edit,
    errors_of,
    line_of,
    project,
)

from etl_assets.project import load_project

__all__ = ["project"]  # a fixture is used by its name

# fmt: off
# what is edited, from, to, the text on whose line the error is, the message
CASES = {
    "parse error": (GDP_SQL, "l.part_id,", "(l.part_id,", "from silver", "column 4: Expecting ) near 'from'"),
    "two statements": (
        GDP_SQL, "-- A line", "select 1;\n-- A line", "select 1;",
        "2 statements, must be exactly one SELECT",
    ),
    "not a select": (
        ORDERS_SQL, "select\n", "create table x as select\n", "create",
        "this is CREATE, must be exactly one SELECT",
    ),
    "reads a file": (
        GDP_SQL, "silver.sales_orders as o", "read_parquet('x') as o", "read_parquet",
        "read_parquet isn't allowed: a transform reads only tables such as silver.orders",
    ),
    "reads a file by name": (
        GDP_SQL, "silver.sales_orders as o", "'orders.csv' as o", "'orders.csv'",
        "unknown table 'orders.csv'; valid: ",
    ),
    "reads from a function": (
        GDP_SQL, "silver.sales_orders as o", "something() as o", "something",
        "reads from a function; valid: tables, range, generate_series, unnest",
    ),
    "locks": (
        ORDERS_SQL, "from bronze.sales_orders", "from bronze.sales_orders for update", "    order_id",
        "LOCK isn't allowed",
    ),
    "unknown table": (
        GDP_SQL, "from silver.sales_lines", "from silver.sales_line", "from silver.sales_line ",
        "unknown table 'silver.sales_line'; did you mean 'silver.sales_lines'? Valid: "
        "silver.sales_lines, silver.sales_orders",
    ),
    "another dataset's bronze": (
        ORDERS_SQL, "from bronze.sales_orders", "from bronze.sales_lines", "from bronze.sales_lines",
        "silver.sales_orders may not read bronze.sales_lines: a silver reads only its own bronze "
        "table; did you mean 'bronze.sales_orders'? Valid: bronze.sales_orders",
    ),
    "gdp reads bronze": (
        GDP_SQL, "silver.sales_orders as o", "bronze.sales_orders as o", "bronze.sales_orders",
        "gdp.gdp_sales may not read bronze.sales_orders: a gdp reads only silver and gdp; did you mean",
    ),
    "kpi reads silver": (
        KPI_SQL, "from gdp.gdp_sales", "from silver.sales_lines", "from silver.sales_lines",
        "kpi.kpi_net_revenue may not read silver.sales_lines: a kpi reads only gdp and kpi; valid: "
        "gdp.gdp_sales",
    ),
    "reads itself": (
        GDP_SQL, "silver.sales_orders as o", "gdp.gdp_sales as o", "gdp.gdp_sales as o",
        "gdp.gdp_sales reads itself; valid: ",
    ),
    "unknown column": (
        GDP_SQL, "o.nation,", "o.natoin,", "o.natoin",
        "unknown column 'o.natoin'; did you mean 'nation'? Valid: order_id, customer_id,",
    ),
    "unknown column without table": (
        ORDERS_SQL, "trim(nation)", "trim(natin)", "trim(natin)",
        "unknown column 'natin'; did you mean 'nation'? Valid: order_id, customer_id, nation_id,",
    ),
    "unknown alias": (
        GDP_SQL, "o.nation,", "x.nation,", "x.nation",
        "unknown table 'x' in 'x.nation'; valid: l, o",
    ),
    "ambiguous column": (
        GDP_SQL, "    l.order_id,", "    order_id,", "    order_id,",
        "column 'order_id' is ambiguous; valid: l.order_id, o.order_id",
    ),
    "column too many": (
        ORDERS_SQL, "total_price,", "total_price,\n    clerk,", "    clerk,",
        "column 'clerk' is not in the contract of silver.sales_orders; valid: order_id,",
    ),
    "column given twice": (
        ORDERS_SQL, "total_price,", "total_price,\n    clerk as status,", "clerk as",
        "column 'status' is given twice: keep one",
    ),
    "column without name": (
        LINES_SQL, "trim(ship_mode) as ship_mode", "trim(ship_mode)", "trim(ship_mode)",
        "column 10 of the result has no name: add `as <name>`; valid: ship_mode",
    ),
    "lone percent": (
        CONTROL, "group by", "  and n.name like 'A%' group by", "like 'A%'",
        "a lone % must be written %%",
    ),
    "unknown parameter": (
        CONTROL, "group by", "  and n.name = %(nation)s group by", "%(nation)s",
        "unknown parameter %(nation)s; valid: %(start)s, %(end)s",
    ),
    "control without limit": (
        CONTROL, " and o.order_date < %(end)s", "", "--",
        "doesn't use %(end)s: it must be limited to one period",
    ),
    "control without key": (
        CONTROL, "    n.name as nation,\n", "", "    date_trunc",
        "key 'nation' of kpi.kpi_net_revenue is not in the result; valid: month, currency,",
    ),
    "control without measure": (
        CONTROL, "as net_revenue", "as revenue", "    date_trunc",
        "compared measure 'net_revenue' of kpi.kpi_net_revenue is not in the result; did you mean "
        "'revenue'? Valid: ",
    ),
    "control that waits": (CONTROL, "n.name as", "pg_sleep(9) as", "pg_sleep", "pg_sleep isn't allowed"),
    "control that doesn't parse": (
        CONTROL, "from erp.orders as o", "from where", "from where",
        "column 10: ",
    ),
}
# fmt: on


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_error_names_file_line_and_what_is_valid(
    project: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str, str, str]
) -> None:
    """Somebody who reads the line can go there and knows what to write."""
    monkeypatch.chdir(project)
    file, old, new, at, message = case
    edit(project / file, old, new)
    place = f"{file}:{line_of(project / file, at)}: "
    found = errors_of(project)
    assert any(e.startswith(place) and message in e for e in found), f"{place}{message} not among {found}"


def test_cycle_is_named_with_its_way_round(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads "a → b → a" sees which of the two reads to take out."""
    monkeypatch.chdir(project)
    other = project / "datasets" / "gdp_more"
    other.mkdir()
    manifest = (project / GDP).read_text().replace("gdp_sales", "gdp_more")
    (other / "manifest.yaml").write_text(manifest.replace("grain: silver.sales_lines", "grain: gdp.gdp_sales"))
    columns = ", ".join(line.strip().split(":")[0] for line in manifest.splitlines() if ": {type" in line)
    (other / "gdp_more.sql").write_text(f"select {columns} from gdp.gdp_sales")
    edit(
        project / GDP_SQL,
        "left join silver.sales_orders",
        "left join gdp.gdp_more as g using (order_id)\nleft join silver.sales_orders",
    )
    found = [e for e in errors_of(project) if "cycle" in e]
    assert found == [
        "datasets/gdp_more/gdp_more.sql:1: cycle: gdp.gdp_more → gdp.gdp_sales → gdp.gdp_more; "
        "take one of these reads out"
    ]


def test_columns_of_the_result_may_come_in_any_order(project: Path) -> None:
    """The platform selects by name: moving a line in the SQL is no error."""
    edit(project / ORDERS_SQL, "    order_id,\n", "")
    edit(project / ORDERS_SQL, "total_price,\n", "total_price,\n    order_id,\n")
    assert load_project(project).tables["silver.sales_orders"].contract.names[0] == "order_id"


def test_a_silver_without_sql_takes_its_columns_from_bronze(project: Path) -> None:
    """The smallest manifest needs no transform."""
    edit(project / ORDERS, "  sql: silver.sql\n", "")
    table = load_project(project).tables["silver.sales_orders"]
    assert table.inputs == ("bronze.sales_orders",)
    assert table.sql is not None
    assert '"nation",\n' in table.sql


def test_a_missing_column_is_reported_at_the_contract(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SQL has no line for what it lacks; the manifest has one."""
    monkeypatch.chdir(project)
    edit(project / ORDERS_SQL, "    total_price,\n", "")
    line = line_of(project / ORDERS, "    total_price: {")
    place = f"{ORDERS}:{line}: column 'total_price' is not given by silver.sql, which gives order_id, customer_id"
    assert any(e.startswith(place) for e in errors_of(project))
