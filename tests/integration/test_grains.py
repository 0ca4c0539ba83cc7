"""Partitions of every grain on real servers, from a source that is captured by day to KPIs by quarter (M5, M6)."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from etl_assets.cli.main import app
from etl_assets.verify import verify
from etl_resources.calendar import Every
from tests.integration.grains_project import COLUMNS, FIRST, Sale, expected, grain, write_grains
from tests.invariants import prove_stores
from tests.lake import Lake, new_lake
from tests.ticks import Ticker

SALES = {
    i: Sale(
        FIRST + timedelta(days=(i * 37) % 61),
        ("EUR", "USD")[i % 2] if i % 50 else "?",
        Decimal(i * 7 % 1000) + Decimal("0.37"),
    )
    for i in range(1, 200)
}


class Shop:
    """The lake, and the rows of its source."""

    def __init__(self, lake: Lake) -> None:
        self.lake, self.sales, self.first = lake, dict(SALES), ""
        self.returns = {i: s for i, s in SALES.items() if i % 5 == 0}
        lake.erp("create schema erp")
        lake.erp("create table erp.sales (sale_id bigint primary key, day date not null, currency text not null, "
                 "amount numeric(15,2) not null)")  # fmt: skip
        lake.erp("create table erp.returns (return_id bigint primary key, day date not null, amount numeric(15,2))")
        for i, s in self.returns.items():
            lake.erp("insert into erp.returns values (%s, %s, %s)", i, s.day, s.amount)
        self.show(self.sales)

    def show(self, sales: Mapping[int, Sale]) -> None:
        """Make the source hold exactly these."""
        changed = {i: s for i, s in sales.items() if self.sales.get(i) != s or sales is self.sales}
        for i in self.sales.keys() - sales.keys():
            self.lake.erp("delete from erp.sales where sale_id = %s", i)
        self.lake.erp(
            "insert into erp.sales select * from unnest(%s::bigint[], %s::date[], %s::text[], %s::numeric[]) "
            "on conflict (sale_id) do update set day = excluded.day, currency = excluded.currency, "
            "amount = excluded.amount",
            *map(list, zip(*((i, s.day, s.currency, s.amount) for i, s in changed.items()), strict=True)),
        )
        self.sales = dict(sales)

    def prove(self) -> None:
        """Every table holds what plain Python makes of the source; nothing is lost, doubled or left over."""
        for asset, rows in expected(self.sales, self.returns).items():
            assert sorted(self.lake.rows(asset, COLUMNS[asset])) == rows, asset
        weeks = self.lake.platform("select week, currency, sales, amount from analytics.weeks order by 1, 2")
        assert weeks == expected(self.sales, self.returns)["gdp/weeks"]
        prove_stores(self.lake)


@pytest.fixture(scope="module")
def shop(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """With everything made once, by a backfill."""
    folder = tmp_path_factory.mktemp("grains")
    with new_lake(folder / "home", scale=None, project=write_grains(folder / "project")) as lake:
        made = Shop(lake)
        made.first = call(made, "backfill", "*", "--yes")
        yield made


def call(shop: Shop, *arguments: str, exit_code: int = 0) -> str:
    """What the console script prints."""
    with shop.lake.environment():
        done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == exit_code, (done.output[-2000:], done.exception)
    return done.stdout


def published_since(shop: Shop, epoch: int) -> set[tuple[str, str]]:
    """Partitions with new content."""
    return set(shop.lake.platform("select asset, partition from etl.publishes where epoch > %s and alias_of is null",
                                  epoch))  # fmt: skip


def newest_epoch(shop: Shop) -> int:
    ((epoch,),) = shop.lake.platform("select max(epoch) from etl.publishes")
    return int(epoch)


def dependants(days: set[date]) -> set[tuple[str, str]]:
    """What is made from sales of these days, and of their periods alone."""
    of_day = {"bronze.sales", "silver.sales", "gdp.sold", "postgres.analytics.sold"}
    by: dict[str, Every] = {
        "gdp.weeks": "week", "postgres.analytics.weeks": "week", "gdp.months": "month", "kpi.quarters": "quarter",
        "postgres.analytics.quarters": "quarter", "kpi.fiscal": "fiscal_quarter",
    }  # fmt: skip
    found = {(asset, day.isoformat()) for asset in of_day for day in days}
    return found | {(asset, grain(every).containing(day)) for asset, every in by.items() for day in days}


def test_a_backfill_makes_every_grain_in_its_order(shop: Shop) -> None:
    """Days before the weeks and months that are made of them, months before the days that are made of these."""
    runs = [line for line in map(str.strip, shop.first.splitlines()) if re.match(r"\d\. ", line)]
    run_of = {asset: i for i, line in enumerate(runs) for asset in line.rpartition(": ")[2].split(", ")}
    for name, node in shop.lake.runtime.project.tables.items():
        assert all(run_of[i] <= run_of[name] for i in node.upstream), (name, runs)
    assert len(runs) <= 8, runs
    assert "1. 2024-03-01 … 2024-04-30: bronze.sales, silver.sales, gdp.sold, postgres.analytics.sold" in runs
    shop.prove()
    report = verify(shop.lake.runtime, (), (), lambda _: None)
    assert report.equal, "\n".join(report.lines())
    assert json.loads(call(shop, "plan", "*", "--json"))["runs"] == []
    assert "fiscal-quarter-2024-02: fresh" in call(shop, "why", "kpi.fiscal", "fiscal-quarter-2024-02")
    assert json.loads(call(shop, "account", "gdp.shares", "2024-03-17", "--json"))["balances"]
    letters = json.loads(call(shop, "dead-letters", "list", "--partitions", "quarter-2024-04", "--json"))
    assert letters, letters


def test_a_lost_ledger_is_rebuilt_and_a_maintained_table_is_as_it_was(shop: Shop) -> None:
    """Keys are read from paths and summaries: those of every grain."""
    shop.lake.platform("truncate etl.publishes, etl.intents, etl.captures cascade")
    call(shop, "recover")
    call(shop, "maintain")
    shop.prove()
    assert json.loads(call(shop, "plan", "*", "--json"))["runs"] == []


def test_late_data_is_followed_through_every_grain_and_nothing_else_is_made(shop: Shop) -> None:
    """A correction, a row that moves into another quarter, one that moves within its month, and a deleted one."""
    sales, before = dict(shop.sales), newest_epoch(shop)
    ids = {month: sorted(i for i, s in sales.items() if s.day.month == month) for month in (3, 4)}
    corrected, moved, within, deleted = ids[3][0], ids[3][1], ids[3][2], ids[4][1]
    days = {sales[i].day for i in (corrected, moved, within, deleted)} | {date(2024, 4, 9), date(2024, 3, 28)}
    sales[corrected] = replace(sales[corrected], amount=Decimal("4711.11"))
    sales[moved] = replace(sales[moved], day=date(2024, 4, 9))
    sales[within] = replace(sales[within], day=date(2024, 3, 28))
    del sales[deleted]
    shop.show(sales)
    back = next(i for i, s in shop.returns.items() if s.day.month == 3)
    of_returns = {shop.returns[back].day.isoformat(), "2024-03-13"}
    shop.returns[back] = replace(shop.returns[back], day=date(2024, 3, 13))
    shop.lake.erp("update erp.returns set day = '2024-03-13' where return_id = %s", back)
    asked = Ticker(shop.lake, ahead=timedelta(hours=25)).settle(most=12)
    assert {a.request.job_name for a in asked} >= {"all_layers", "all_layers_by_day", "all_layers_by_week"}
    shop.prove()
    found = published_since(shop, before)
    apart = ("gdp.shares", "kpi.two_periods", "kpi.total")
    returned = ("gdp.returned", "kpi.return_days", "postgres.analytics.returned")
    assert {p for p in found if p[0] not in (*apart, *returned)} == dependants(days) | {
        ("bronze.returns", "2024-03"), ("silver.returns", "2024-03")
    }  # fmt: skip
    assert {p for p in found if p[0] in returned} == {(asset, day) for asset in returned for day in of_returns}
    ((commits,),) = shop.lake.platform(
        "select count(distinct epoch) from etl.publishes where asset = 'gdp.returned' and epoch > %s "
        "and partition = any(%s)", before, [*of_returns])  # fmt: skip
    assert commits == 1, "moved within a month, which tells nobody: both days go together"
    shares = {p for a, p in found if a == "gdp.shares"}
    assert {d.isoformat() for d in days} <= shares
    together = shop.lake.platform(
        "select asset, count(distinct epoch), count(*) from etl.publishes where epoch > %s and partition = any(%s) "
        "group by 1", before, [grain(e).containing(d) for e in ("week", "month", "quarter")
                               for d in (SALES[moved].day, date(2024, 4, 9))],
    )  # fmt: skip
    served = ("postgres.analytics.weeks", "postgres.analytics.quarters")
    both_in_one = dict.fromkeys(("gdp.weeks", "gdp.months", "kpi.quarters", *served), (1, 2))
    assert {a: (commits, partitions) for a, commits, partitions in together if a in both_in_one} == both_in_one


@pytest.mark.long
def test_three_years_of_days_are_captured_at_once_and_one_day_by_itself(stack: object, tmp_path: Path) -> None:
    """1,096 partitions are one commit, whose map in the summary stays small; a late row is one more."""
    root = write_grains(tmp_path / "project", only=())
    platform = (root / "platform.yaml").read_text()
    (root / "platform.yaml").write_text(
        platform.replace("start: 2024-03, end: 2024-04", "start: 2022-01, end: 2024-12")
    )
    with new_lake(tmp_path / "home", scale=None, project=root) as lake:
        made = Shop(lake)
        made.show({i: Sale(date(2022, 1, 1) + timedelta(days=i), "EUR", Decimal(i)) for i in range(1096)})
        done = lake.materialize("2022-01-01", "2024-12-31", ["bronze/sales"])
        assert done.success, done.error
        assert len(done.published("bronze/sales")) == 1096
        made.show({**made.sales, 2000: Sale(date(2023, 5, 17), "EUR", Decimal(1))})
        again = lake.materialize("2022-01-01", "2024-12-31", ["bronze/sales"])
        assert again.published("bronze/sales") == {"2023-05-17"}
        table = lake.runtime.store.catalog.load_table(lake.runtime.addresses["bronze.sales"].identifier)
        summaries = [len(str(dict(s.summary.additional_properties))) for s in table.snapshots() if s.summary]
        assert len(summaries) == 3
        assert max(summaries) < 256 * 1024
