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
    prove_told,
)

from etl_assets.project import load_project
from etl_resources.sql_check import parse_select, read_only_problems

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
        CONTROL, "    trim(n.name) as nation,\n", "", "    date_trunc",
        "key 'nation' of kpi.kpi_net_revenue is not in the result; valid: month, currency,",
    ),
    "control without measure": (
        CONTROL, "as net_revenue", "as revenue", "    date_trunc",
        "compared measure 'net_revenue' of kpi.kpi_net_revenue is not in the result; did you mean "
        "'revenue'? Valid: ",
    ),
    "control whose period isn't first": (
        CONTROL, "select\n", "select\n    1 as one,\n", "    1 as one",
        "the first column is 'one', must be the partition column 'month': totals are kept by period",
    ),
    "control that waits": (CONTROL, "trim(n.name) as", "pg_sleep(9) as", "pg_sleep", "pg_sleep isn't allowed"),
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
    prove_told(project, *case)


@pytest.mark.parametrize(
    "sql",
    [
        "select 1 as a from read_csv('x.csv')",
        "select 1 as a from read_parquet('x')",
        "select 1 as a from iceberg_scan('x')",
        "select 1 as a from postgres_query('db', 'select 1')",
        "select 1 as a from glob('*')",
        "select 1 as a from query('select 1')",
        "select getenv('HOME') as a",
        "select random() as a",
        'select "random"() as a',
        "select main.random() as a",
        "select now() as a",
        "select today() as a",
        "select uuid() as a",
        "select gen_random_uuid() as a",
        "select current_date as a",
        "select current_timestamp as a",
        "select nextval('s') as a",
        "with x as (delete from t returning a) select a from x",
        "select a into t from x",
        "select a from x for update",
        "select a from x using sample 10%",
        "select a from (summarize x)",
        "select $1 as a",
    ],
)
def test_reading_outside_writing_and_chance_are_refused(sql: str) -> None:
    """The inputs of a run token are the tables that were read: anything else would change rows unseen."""
    query, problems = parse_select(sql)
    assert query is not None, problems
    assert [p.line for p in read_only_problems(query, sql)] == [1]


@pytest.mark.parametrize(
    "sql",
    [
        "attach 'x.db'",
        "copy x to 'y'",
        "pragma version",
        "set threads = 1",
        "insert into x values (1)",
        "values (1)",
        "select 1; select 2",
        "install httpfs",
        "",
    ],
)
def test_anything_but_one_select_is_refused(sql: str) -> None:
    """C8: a transform is a question."""
    query, (problem,) = parse_select(sql)
    assert query is None
    assert "exactly one SELECT" in problem.message


def test_names_of_functions_are_free_for_columns() -> None:
    """Only calls are refused."""
    sql = "select random, \"now\", t.version, 'now()' as today from x as t -- random()"
    query, _ = parse_select(sql)
    assert query is not None
    assert read_only_problems(query, sql) == []


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
