"""Windows of months through Dagster: what a month reads beside itself is in its token, published or not."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from etl_assets.definitions import build_definitions
from etl_assets.verify import verify
from tests.integration.windows_project import FIRST, GROWTH, TRAILING, expected, write_windows
from tests.lake import Lake, instance, new_lake
from tests.property.tiny_sales import MONTHS, Erp, State

JANUARY, FEBRUARY, MARCH = MONTHS
UPSTREAM = ("bronze/orders", "bronze/lines", "silver/orders", "silver/lines", "gdp/sales")
AMOUNTS = {JANUARY: Decimal("10.10"), FEBRUARY: Decimal("20.20"), MARCH: Decimal("30.30")}


def state(amounts: dict[str, Decimal]) -> State:
    days = {i: date.fromisoformat(f"{month}-15") for i, month in enumerate(amounts)}
    return State({i: (day, "EUR") for i, day in days.items()}, {(i, 1): a for i, a in enumerate(amounts.values())})


@pytest.fixture
def erp(lake: Lake) -> Iterator[Erp]:
    made = Erp(lake.erp_dsn)
    made.show(state(AMOUNTS))
    yield made
    made.close()


@pytest.fixture
def lake(stack: object, tmp_path: Path) -> Iterator[Lake]:
    with new_lake(tmp_path / "home", scale=None, project=write_windows(tmp_path / "project")) as made:
        yield made


def rows(lake: Lake, asset: str, month: str) -> list[tuple[object, ...]]:
    return lake.rows(asset, "month, before, amount", f"month = date '{month}-01'")


def test_a_change_recomputes_the_months_that_read_it_and_no_other(lake: Lake, erp: Erp) -> None:
    """The purpose: growth of March follows a correction in February, growth of January doesn't run."""
    first = lake.materialize(JANUARY, MARCH)
    assert first.success, first.error
    for asset, back in ((GROWTH, 1), (TRAILING, 11)):
        for i, month in enumerate(MONTHS):
            read = list(MONTHS[max(0, i - back) : i + 1])
            assert rows(lake, asset, month) == [expected(AMOUNTS, month, read)], (asset, month)
    assert rows(lake, FIRST, JANUARY) == [expected(AMOUNTS, JANUARY, list(MONTHS))]

    again = lake.materialize(JANUARY, MARCH)
    for asset in (GROWTH, TRAILING, FIRST):
        assert again.partitions(asset, "pruned") == set(MONTHS)

    corrected = {**AMOUNTS, JANUARY: Decimal("11.11")}
    erp.show(state(corrected))
    changed = lake.materialize(JANUARY, MARCH)
    assert changed.success, changed.error
    assert changed.published(GROWTH) == {JANUARY, FEBRUARY}
    assert changed.partitions(GROWTH, "pruned") == {MARCH}
    assert changed.published(TRAILING) == set(MONTHS)
    assert rows(lake, GROWTH, FEBRUARY) == [expected(corrected, FEBRUARY, [JANUARY, FEBRUARY])]
    assert changed.partitions(FIRST, "published", "unchanged") == set(MONTHS)

    report = verify(lake.runtime, (), (), lambda _: None)
    assert report.equal, "\n".join(report.lines())


def test_a_missing_month_is_refused_or_its_later_publish_is_a_change(lake: Lake, erp: Erp) -> None:
    """A KPI of half a year that claims to be one of a year must at least become right by itself."""
    run = lake.materialize(MARCH)
    assert not run.success
    assert "gdp.sales has no published partition 2024-02. Materialize it first" in run.error
    assert run.published(TRAILING) == {MARCH}
    assert rows(lake, TRAILING, MARCH) == [expected(AMOUNTS, MARCH, [MARCH])]

    again = lake.materialize(MARCH, selection=[TRAILING])
    assert again.partitions(TRAILING, "pruned") == {MARCH}

    assert lake.materialize(FEBRUARY, selection=UPSTREAM).success
    later = lake.materialize(MARCH, selection=[TRAILING, GROWTH])
    assert later.success, later.error
    assert later.published(TRAILING) == {MARCH}
    assert rows(lake, TRAILING, MARCH) == [expected(AMOUNTS, MARCH, [FEBRUARY, MARCH])]
    assert rows(lake, GROWTH, MARCH) == [expected(AMOUNTS, MARCH, [FEBRUARY, MARCH])]


def test_a_month_before_the_calendar_is_not_missing(lake: Lake, erp: Erp) -> None:
    """The first month has no month before: refusing it for ever would help nobody."""
    run = lake.materialize(JANUARY)
    assert run.success, run.error
    assert rows(lake, GROWTH, JANUARY) == [expected(AMOUNTS, JANUARY, [JANUARY])]


def test_dagster_knows_which_months_are_out_of_date(lake: Lake, erp: Erp) -> None:
    """The web UI must not call a month fresh whose window has changed, nor all months stale for one."""
    assert lake.materialize(JANUARY, MARCH).success
    assert stale(lake, GROWTH) == set()
    erp.show(state({**AMOUNTS, JANUARY: Decimal("11.11")}))
    assert lake.materialize(JANUARY, MARCH, selection=UPSTREAM).success
    assert stale(lake, GROWTH) == {JANUARY, FEBRUARY}


def stale(lake: Lake, asset: str) -> set[str]:
    with lake.environment():
        graph = build_definitions().resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance(), graph, LoadingContextForTest(instance()))
    key = dg.AssetKey(asset.split("/"))
    return {m for m in MONTHS if resolver.get_status(key, m) == StaleStatus.STALE}
