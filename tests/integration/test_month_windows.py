"""Windows of months through Dagster: what a month reads beside itself is in its token, published or not."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from etl_assets.verify import verify
from etl_resources.calendar import WHOLE
from tests.integration.staleness import stale
from tests.integration.windows_project import FIRST, GROWTH, HISTORY, TRAILING, expected, write_windows
from tests.lake import Lake, new_lake
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
    """The purpose: growth of February follows a correction in January, growth of March doesn't run. The first month
    has no month before, and is made all the same. Dagster calls out of date exactly what will be made again.
    """
    first = lake.materialize(JANUARY, MARCH)
    assert first.success, first.error
    for asset, back in ((GROWTH, 1), (TRAILING, 11)):
        for i, month in enumerate(MONTHS):
            read = list(MONTHS[max(0, i - back) : i + 1])
            assert rows(lake, asset, month) == [expected(AMOUNTS, month, read)], (asset, month)
    assert rows(lake, FIRST, JANUARY) == [expected(AMOUNTS, JANUARY, list(MONTHS))]
    assert lake.rows(HISTORY, "currency, amount") == [("EUR", sum(AMOUNTS.values(), Decimal(0)))]
    assert stale(lake, GROWTH, MONTHS) == set()

    again = lake.materialize(JANUARY, MARCH)
    for asset in (GROWTH, TRAILING, FIRST):
        assert again.partitions(asset, "pruned") == set(MONTHS)
    assert again.partitions(HISTORY, "pruned") == {WHOLE}

    corrected = {**AMOUNTS, JANUARY: Decimal("11.11")}
    erp.show(state(corrected))
    assert lake.materialize(JANUARY, MARCH, selection=UPSTREAM).success
    assert stale(lake, GROWTH, MONTHS) == {JANUARY, FEBRUARY}
    changed = lake.materialize(JANUARY, MARCH, selection=[GROWTH, TRAILING, FIRST, HISTORY])
    assert changed.success, changed.error
    assert changed.published(GROWTH) == {JANUARY, FEBRUARY}
    assert changed.partitions(GROWTH, "pruned") == {MARCH}
    assert changed.published(TRAILING) == set(MONTHS)
    assert rows(lake, GROWTH, FEBRUARY) == [expected(corrected, FEBRUARY, [JANUARY, FEBRUARY])]
    assert changed.partitions(FIRST, "published", "unchanged") == set(MONTHS)
    assert changed.published(HISTORY) == {WHOLE}
    assert lake.rows(HISTORY, "currency, amount") == [("EUR", sum(corrected.values(), Decimal(0)))]

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
