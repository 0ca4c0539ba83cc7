"""Backfills by Dagster's daemon: from the web UI, by the command, and when that is killed meanwhile (D1, M6)."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.integration.backfill_child import run_command
from tests.integration.backfill_daemon import WebUi, dagster_of
from tests.integration.backfill_shop import Shop, new_shop, of, outcomes, steps
from tests.property.tiny_sales import MONTHS

pytestmark = pytest.mark.timeout(400)
JANUARY, FEBRUARY, MARCH = MONTHS
BRONZE, SILVER = ("bronze.orders", "bronze.lines"), ("silver.orders", "silver.lines")
MONTHLY = (*BRONZE, *SILVER, "gdp.sales", "kpi.revenue", "postgres.analytics.revenue")


@pytest.fixture(scope="module")
def shop(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with new_shop(tmp_path_factory.mktemp("shop")) as made:
        platform = made.project / "platform.yaml"
        platform.write_text(platform.read_text() + "keep_fresh: {enabled: false}\n")
        yield made


@pytest.fixture(scope="module")
def ui(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebUi]:
    with dagster_of(shop, tmp_path_factory.mktemp("dagster") / "project") as made:
        yield made


def made_since(shop: Shop, epoch: int) -> Counter[tuple[str, str]]:
    """How often each partition was published."""
    rows = shop.lake.platform(
        "select asset, partition, count(*) from etl.publishes where epoch > %s group by 1, 2", epoch
    )
    return Counter({(asset, partition): count for asset, partition, count in rows})


def test_from_the_web_ui_only_what_changed_is_made_and_a_failed_month_stands_alone(shop: Shop, ui: WebUi) -> None:
    """The policies hold wherever a backfill is asked for: three months were, one changed, and one of them fails."""
    shop.sell(0, "11.00")
    shop.sell(1, "-1.00")  # silver rejects it, so that the KPI differs from the ERP
    planned = steps(shop.told("plan", *MONTHLY), "compute", "may change")
    epoch = shop.epoch

    failed = ui.backfill(MONTHLY, MONTHS)

    assert failed == "COMPLETED_FAILED"
    assert ui.colours("kpi.revenue") == {JANUARY: "MATERIALIZED", FEBRUARY: "FAILED", MARCH: "MATERIALIZED"}
    assert set(ui.colours("gdp.sales").values()) == {"MATERIALIZED"}
    made = made_since(shop, epoch)
    assert set(made) <= planned, "exactly what plan named"
    assert ("kpi.revenue", JANUARY) in made
    assert not {place for place in made if place[1] == MARCH}, "pruned partitions finish at once"

    shop.sell(1, "12.00")
    epoch = shop.epoch
    assert ui.backfill(MONTHLY, MONTHS) == "COMPLETED_SUCCESS"

    assert set(ui.colours("kpi.revenue").values()) == {"MATERIALIZED"}
    missing = {*of(FEBRUARY, *MONTHLY), ("postgres.analytics.revenue", JANUARY)}
    assert set(made_since(shop, epoch)) <= missing, "a rerun does only what is missing"
    assert steps(shop.told("plan", *MONTHLY), "compute", "may change") == set()


@pytest.mark.parametrize("point", ["backfill.submitted", "backfill.recorded"])
def test_killed_while_the_daemon_goes_on_it_is_followed_by_the_same_command(shop: Shop, ui: WebUi, point: str) -> None:
    """Not asked for twice: a second backfill beside the first would pay for every partition again."""
    shop.sell(2, f"{20 + len(point)}.01")
    plan = shop.told("plan", "all")
    command = ("backfill", "all", "--plan", plan["plan"], "--yes")
    epoch = shop.epoch
    child = shop.lake.fork(run_command, command, [{"point": point, "action": "kill"}])
    assert child.wait() is None, child.log

    done = shop.told(*command)

    assert done["run_by"] == "daemon"
    assert outcomes(done, "computed", "unchanged", "pruned") == steps(plan, "compute", "may change", "look")
    assert set(made_since(shop, epoch).values()) == {1}
    ((asked,),) = shop.lake.platform("select count(*) from bulk_actions where body like %s", f"%{done['backfill']}%")
    assert asked == 1
    assert len(done["runs"]) == done["estimated"]["runs"], "the runs that plan named"
    assert steps(shop.told("plan", "all"), "compute", "may change") == set()
