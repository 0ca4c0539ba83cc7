"""Column lineage: from manifests and SQL alone, to the systems of record and to what is served."""

import json
from typing import Any, ClassVar, cast

import dagster as dg
import pytest
import typer
from typer.testing import CliRunner, Result

from etl_assets import column_lineage
from etl_assets.cli.lineage import drawing, register
from etl_assets.column_lineage import Column, ColumnLineage, Made
from etl_assets.definitions import build_definitions
from etl_assets.graph.column_lineage import columns_of
from etl_assets.graph.outcome import AssetIdentity, PartitionOutcome, materializations
from etl_assets.graph.runtime import Runtime
from etl_assets.project import ASSETS_FOLDER, load_project
from etl_resources import sql_lineage
from etl_resources.errors import PermanentError
from etl_resources.sql_lineage import made_columns

EXAMPLE = load_project(ASSETS_FOLDER)
COLUMNS = ColumnLineage(EXAMPLE)
SCHEMA = {"silver.t": {"x": "int", "y": "int", "l": "string"}, "silver.u": {"x": "int", "z": "int"}}
LINEAGE = "dagster/column_lineage"
# fmt: off
STATEMENTS: dict[str, tuple[str, list[str], str]] = {
    "as it is": ("select x as a from silver.t", ["t.x"], "x"),
    "expression": ("select x + 1 as a from silver.t", ["t.x"], "x + 1"),
    "common table expressions": (
        "with p as (select x + y as s from silver.t), q as (select s * 2 as d from p) select d - 1 as a from q",
        ["t.x", "t.y"], "((x + y) * 2) - 1",
    ),
    "aggregate with a filter": (
        "select sum(x) filter (where y > 0) as a from silver.t group by l",
        ["t.x", "t.y"], "SUM(x) FILTER(WHERE y > 0)",
    ),
    "window": (
        "select row_number() over (partition by l order by x desc) as a from silver.t",
        ["t.l", "t.x"], "ROW_NUMBER() OVER (PARTITION BY l ORDER BY x DESC)",
    ),
    "join": ("select t.x + u.z as a from silver.t join silver.u on u.x = t.x", ["t.x", "u.z"], "x + z"),
    "equal names": (
        "select t.x - u.x as a from silver.t join silver.u on u.x = t.y", ["t.x", "u.x"], "silver.t.x - silver.u.x",
    ),
    "joined by a name": ("select x as a from silver.t full join silver.u using (x)", ["t.x", "u.x"],
                         "COALESCE(silver.t.x, silver.u.x)"),
    "union": ("select x as a from silver.t union all select z from silver.u", ["t.x", "u.z"], "EITHER(x, z)"),
    "recursion": (
        "with recursive r as (select x as a from silver.t union all select a + 1 from r where a < 9) select a from r",
        ["t.x"], "EITHER(silver.t.x, t.x + 1)",
    ),
    "subquery": (
        "select (select max(z) from silver.u where u.x = t.x) as a from silver.t", ["u.z"],
        "(SELECT MAX(z) AS _col_0 FROM silver.u AS u WHERE u.x = silver.t.x)",
    ),
    "star": ("select * replace (x + 1 as x) from silver.t", ["t.x"], "x + 1"),
    "an alias used beside it": ("select y as b, b * 2 as a from silver.t", ["t.y"], "y * 2"),
    "count of rows": ("select count(*) as a from silver.t", [], "COUNT(*)"),
    "constant": ("select 1 as a from silver.t", [], "1"),
    "generated rows": ("select t.x + r.range as a from silver.t, range(3) as r", ["t.x"], "x + range"),
    "quoted": ('select "l" as a from silver.t', ["t.l"], "l"),
}
# fmt: on


@pytest.mark.parametrize(("sql", "sources", "expression"), STATEMENTS.values(), ids=STATEMENTS)
def test_a_column_is_followed_through_the_sql(sql: str, sources: list[str], expression: str) -> None:
    """A source that is missed is a change that surprises somebody."""
    made = list(made_columns(sql, SCHEMA).values())[0 if "as b" not in sql else 1]
    assert [f"{table}.{name}" for table, name in made.sources] == [f"silver.{s}" for s in sources]
    assert made.expression == expression


def test_an_expression_that_doubles_at_each_step_stays_short() -> None:
    """Sixty steps would be more text than there is memory."""
    steps = ", ".join(f"s{i} as (select a * a as a from s{i - 1})" for i in range(1, 60))
    made = made_columns(f"with s0 as (select x as a from silver.t), {steps} select a from s59", SCHEMA)["a"]
    assert made.sources == (("silver.t", "x"),)
    assert len(made.expression) < 100


def reached(text: str, downstream: bool = False) -> set[str]:
    """All columns that a column leads to, without itself."""
    start = COLUMNS.column(text)
    found, waiting = {start}, [start]
    while waiting:
        column = waiting.pop()
        following = COLUMNS.users(column) if downstream else COLUMNS.made(column).sources
        waiting += [c for c in following if c not in found]
        found |= set(following)
    return {str(c) for c in found - {start}}


def test_revenue_in_euros_comes_from_prices_discounts_and_the_rate() -> None:
    """Over four layers, two systems and a lookup; what isn't part of it isn't told."""
    found = reached("postgres.analytics.kpi_net_revenue.net_revenue_eur")
    outside = {c for c in found if c.startswith(("erp.", "crm.", "ecb.", "calendar."))}
    assert outside == {
        "erp.order_lines.extended_price",
        "erp.order_lines.discount",
        "erp.orders.currency",
        "ecb.currency_rates.rate",
    }


def test_a_tax_is_served_with_orders_and_in_no_kpi() -> None:
    """Who changes a source column sees who is concerned."""
    found = reached("erp.order_lines.tax", downstream=True)
    assert {c for c in found if c.startswith(("postgres.", "elasticsearch."))} == {
        "elasticsearch.orders.tax_amount_eur"
    }
    assert "gdp.gdp_sales.tax_amount" in found


def test_what_is_joined_in_the_source_comes_from_the_parent() -> None:
    """The nation of an order isn't a column of the orders."""
    assert COLUMNS.made(Column("bronze.sales_orders", "nation")).sources == (Column("erp.nations", "name"),)
    assert COLUMNS.made(Column("bronze.sales_lines", "order_date")).sources == (Column("erp.orders", "order_date"),)
    assert COLUMNS.made(Column("bronze.customers", "segment")).sources == (Column("crm.customers", "segment"),)


def test_a_looked_up_value_tells_how_it_was_found() -> None:
    """The key decides which rate, so it belongs to the answer."""
    made = COLUMNS.made(Column("gdp.gdp_sales", "eur_rate"))
    assert made.sources == (Column("silver.currency_rates", "rate"), Column("silver.sales_orders", "currency"))
    assert made.found_by == {
        "silver.currency_rates": "currency = silver.sales_orders.currency; "
        "newest rate_date <= silver.sales_orders.order_date; at most 10 days older"
    }


def test_every_column_of_the_example_is_followed_both_ways() -> None:
    """Upstream and downstream are one graph, whose sources exist."""
    for node in EXAMPLE.tables.values():
        assert list(COLUMNS.table(node.name)) == list(node.contract.names)
        for name, made in COLUMNS.table(node.name).items():
            assert made.sources or "COUNT(*)" in (made.expression or "")
            for source in made.sources:
                assert Column(node.name, name) in COLUMNS.users(source)
                assert source.table == "calendar.period" or COLUMNS.column(str(source)) == source


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gdp.gdp_sale.segment", r"Unknown table 'gdp.gdp_sale' in .*; did you mean 'gdp.gdp_sales'"),
        ("gdp.gdp_sales.segmnt", r"gdp.gdp_sales has no column 'segmnt'; did you mean 'segment'\? Valid: order_id, "),
        ("erp.orders.totl_price", r"erp.orders has no column 'totl_price'; did you mean 'total_price'"),
        ("segment", r"Unknown table '' in 'segment', <table>.<column>; valid: "),
    ],
)  # fmt: skip
def test_an_unknown_name_suggests_a_near_one(text: str, message: str) -> None:
    """Nobody knows all names by heart."""
    with pytest.raises(PermanentError, match=message):
        COLUMNS.column(text)


def run(*arguments: str) -> Result:
    app = typer.Typer()
    register(app)
    return CliRunner(env={"ETL_PROJECT": str(ASSETS_FOLDER)}).invoke(app, list(arguments))


def test_the_way_of_a_column_is_drawn() -> None:
    """With the expression of each hop, to the source."""
    assert run("silver.sales_orders.status").stdout == (
        "silver.sales_orders.status = UPPER(TRIM(status))\n"
        "└─ bronze.sales_orders.status\n"
        "   └─ erp.orders.status\n"
    )  # fmt: skip
    drawn = run("gdp.gdp_sales.segment").stdout.splitlines()
    assert drawn[:3] == [
        "gdp.gdp_sales.segment",
        "│  silver.customers looked up: customer_id = silver.sales_orders.customer_id; "
        "newest valid_from <= silver.sales_orders.order_date",
        "└─ silver.customers.segment = UPPER(TRIM(segment))",
    ]
    last = run("erp.order_lines.tax", "--downstream").stdout.splitlines()[-1]
    assert last.endswith("elasticsearch.orders.tax_amount_eur")


class Diamond:
    """Stands in for a project in which d is made of b and c, and both of a, which is made of o."""

    ways: ClassVar[dict[str, tuple[str, ...]]] = {"d": ("b", "c"), "b": ("a",), "c": ("a",), "a": ("o",)}

    def made(self, column: Column) -> Made:
        return Made(tuple(Column("t", name) for name in self.ways.get(column.name, ())))

    def sensitive(self, column: Column) -> str | None:
        return "hash" if column.name == "o" else None


def test_what_is_drawn_already_is_not_drawn_again() -> None:
    """A column that is used on many ways would fill pages."""
    drawn = drawing(cast("ColumnLineage", Diamond()), Column("t", "d"), downstream=False)
    assert list(drawn) == [
        "t.d",
        "├─ t.b",
        "│  └─ t.a",
        "│     └─ t.o  [sensitive: hash]",
        "└─ t.c",
        "   └─ t.a  (see above)",
    ]


def test_the_way_of_a_column_as_json() -> None:
    """For catalogs and impact checks: each column once."""
    found = json.loads(run("kpi.kpi_net_revenue.orders", "--json").stdout)
    assert found["direction"] == "upstream"
    assert found["columns"][0] == {
        "column": "kpi.kpi_net_revenue.orders",
        "sources": ["gdp.gdp_sales.order_id"],
        "expression": "COUNT(DISTINCT order_id)",
        "looked_up": {},
        "sensitive": None,
    }
    assert found["columns"][-1]["column"] == "erp.order_lines.order_id"


def test_dagster_hears_of_the_columns_with_the_last_event() -> None:
    """The asset is shown by it; every event would carry the same kilobytes."""
    identity = AssetIdentity(dg.AssetKey("a"), "1", (), {}, columns=columns_of(Runtime(EXAMPLE), "gdp.gdp_orders"))
    events = list(
        materializations(identity, [PartitionOutcome(p, "published", "v") for p in ("2024-01", "2024-02")], {})
    )
    assert [LINEAGE in e.metadata for e in events] == [False, True]
    told = events[1].metadata[LINEAGE].value
    assert isinstance(told, dg.TableColumnLineage)
    assert told.deps_by_column["net_amount"] == [dg.TableColumnDep(dg.AssetKey(["gdp", "gdp_sales"]), "net_amount")]


def test_columns_depend_on_nothing_that_the_asset_does_not() -> None:
    """A column of an unknown asset leads nowhere in the web UI."""
    runtime = Runtime(EXAMPLE)
    graph = build_definitions(EXAMPLE).resolve_asset_graph()
    for name in [*EXAMPLE.tables, *(s.name for s in EXAMPLE.serving)]:
        key = dg.AssetKey(name.split("."))
        parents = graph.get(key).parent_keys
        columns = columns_of(runtime, name)()
        assert columns is not None
        for dependencies in columns.deps_by_column.values():
            assert {d.asset_key for d in dependencies} <= parents | joined_parents(name)


def joined_parents(name: str) -> set[dg.AssetKey]:
    """Sources that are captured themselves and joined as well."""
    return {dg.AssetKey(["erp", "orders"])} if name == "bronze.sales_lines" else set()


def test_sql_that_cannot_be_followed_fails_the_question_and_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data is right and published: the run must not fail for what is only told of it."""

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("Could not find it")

    monkeypatch.setattr(sql_lineage, "lineage", refuse)
    with pytest.raises(PermanentError, match=r"^gdp.gdp_orders: Its columns can't be followed: Could not find it"):
        ColumnLineage(EXAMPLE).table("gdp.gdp_orders")
    identity = AssetIdentity(dg.AssetKey("a"), "1", (), {}, columns=columns_of(Runtime(EXAMPLE), "gdp.gdp_orders"))
    (event,) = materializations(identity, [PartitionOutcome("2024-01", "published", "v")], {})
    assert LINEAGE not in event.metadata


def test_loading_the_definitions_looks_at_no_lineage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The web server and every step load them."""

    def refuse(*_: Any) -> None:
        raise AssertionError("looked at while loading")

    monkeypatch.setattr(column_lineage.ColumnLineage, "table", refuse)
    build_definitions(EXAMPLE)
