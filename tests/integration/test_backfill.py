"""why, plan and backfill on a small lake, by the commands that a person types (M6, M11, A6)."""

from collections.abc import Iterator

import pytest

from etl_assets.backfill import launch
from etl_resources.calendar import WHOLE
from tests.integration.backfill_child import run_command
from tests.integration.backfill_shop import Shop, new_shop, of, outcomes, steps
from tests.property.tiny_sales import MONTHS

pytestmark = pytest.mark.timeout(400)
JANUARY, FEBRUARY, MARCH = MONTHS
BRONZE, SILVER = ("bronze.orders", "bronze.lines"), ("silver.orders", "silver.lines")
AFTER = ("gdp.sales", "kpi.revenue", "postgres.analytics.revenue")
GROWTH = "kpi.growth"


@pytest.fixture(scope="module")
def shop(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with new_shop(tmp_path_factory.mktemp("shop")) as made:
        yield made


def test_a_late_order_computes_exactly_what_the_plan_named(shop: Shop) -> None:
    """The purpose: its month, and the month whose growth it changes; a person sees it before, and nothing moves."""
    assert steps(shop.told("plan", "all"), "compute", "may change", "look") == set()
    shop.sell(0, "12.34")
    before, epoch = shop.contents(), shop.epoch

    plan = shop.told("plan", "all")
    text = shop.call("plan", "all").output
    again = shop.told("plan", "all")

    assert shop.contents() == before
    assert again == plan
    assert plan["plan"] in text
    assert "source changed" in text
    assert steps(plan, "compute") == of(JANUARY, *BRONZE)
    follows = of(JANUARY, *SILVER, *AFTER, GROWTH) | of(FEBRUARY, GROWTH)
    assert steps(plan, "may change") == follows
    assert plan["seconds"]["low"] <= plan["seconds"]["value"] <= plan["seconds"]["high"]
    assert plan["cost"]["value"] == pytest.approx(plan["seconds"]["value"] * 0.36 / 3600, rel=0.1)

    done = shop.told("backfill", "all", "--plan", plan["plan"], "--yes")

    assert shop.published_since(epoch) <= of(JANUARY, *BRONZE) | follows
    assert outcomes(done, "computed", "unchanged", "pruned") == of(JANUARY, *BRONZE) | follows
    assert outcomes(done, "computed") >= of(JANUARY, "bronze.lines", "silver.lines", *AFTER) | of(FEBRUARY, GROWTH)
    assert outcomes(done, "failed", "held", "pinned") == set()
    assert done["actual"]["seconds"] > 0
    assert shop.told("plan", "all")["median_errors"]
    assert steps(shop.told("plan", "all"), "compute", "may change") == set()
    assert shop.told("why", GROWTH, FEBRUARY)["status"] == "fresh"


def test_another_change_after_the_plan_is_refused(shop: Shop) -> None:
    """What runs is what somebody looked at; and nobody is asked where nobody can answer."""
    shop.sell(1, "20.01")
    plan = shop.told("plan", "all")
    epoch = shop.epoch
    unasked = shop.call("backfill", "all", "--plan", plan["plan"])
    assert unasked.exit_code == 1
    assert "add --yes" in str(unasked.exception)
    shop.sell(1, "20.02")

    refused = shop.call("backfill", "all", "--plan", plan["plan"], "--yes")

    assert refused.exit_code == 1
    assert f"The state no longer gives plan {plan['plan']}" in str(refused.exception)
    assert shop.call("backfill", "all", "--dry-run").exit_code == 0
    assert shop.published_since(epoch) == set()
    assert shop.told("backfill", "all", "--yes")["actual"]["failed"] == 0


def test_killed_in_the_middle_it_does_only_the_rest(shop: Shop) -> None:
    """A backfill of a night must not begin again, nor be refused because half of its plan is done."""
    shop.sell(0, "30.01")
    plan = shop.told("plan", "all")
    command = ("backfill", "all", "--plan", plan["plan"], "--yes")
    point = {"point": "plan.intended", "action": "kill", "match": GROWTH}
    child = shop.lake.fork(run_command, command, [point])
    assert child.wait() is None, child.log
    epoch = shop.epoch
    assert shop.told("why", "kpi.revenue", JANUARY)["status"] == "fresh"

    done = shop.told(*command)

    assert shop.published_since(epoch) == of(JANUARY, GROWTH) | of(FEBRUARY, GROWTH)
    assert outcomes(done, "computed", "unchanged", "pruned") == steps(plan, "compute", "may change")
    assert len(done["runs"]) > len(shop.told("plan", "all")["runs"])
    ((recorded, finished),) = shop.lake.platform(
        "select plan_hash, finished_at is not null from etl.backfills where backfill = %s", done["backfill"]
    )
    assert (recorded, finished) == (plan["plan"], True)


def test_why_names_the_input_the_run_and_the_way(shop: Shop) -> None:
    """Who asks why a figure is old gets the table, the month, the versions and the run, not a guess."""
    shop.sell(2, "40.01")
    upstream = [a.replace(".", "/") for a in (*BRONZE, *SILVER)]
    run = shop.lake.materialize(MARCH, selection=upstream)
    assert run.success, run.error

    sales = shop.told("why", "gdp.sales", MARCH, exit_code=3)
    served = shop.told("why", "postgres.analytics.revenue", MARCH, exit_code=3)

    (change,) = sales["changes"]
    assert (sales["status"], change["kind"], change["asset"]) == ("stale", "content changed", "silver.lines")
    assert change["run_id"] == run.run_id
    assert change["before"]["version"] != change["after"]["version"]
    assert served["status"] == "behind"
    assert [u["asset"] for u in served["upstream"]] == ["gdp.sales"]
    assert "silver.lines 2024-03: content changed" in shop.call("why", "gdp.sales", MARCH).output

    done = shop.told("backfill", "+postgres.analytics.revenue", "--from", MARCH, "--yes")
    assert outcomes(done, "computed") == of(MARCH, *AFTER)
    left = shop.told("why", GROWTH, MARCH, exit_code=3)
    assert [c["asset"] for c in left["changes"]] == ["gdp.sales"]

    sql = shop.project / "datasets/growth/growth.sql"
    sql.write_text(sql.read_text().replace("p.start_date as month", "(p.start_date) as month"))
    changed = shop.told("why", GROWTH, JANUARY, exit_code=3)
    assert [(c["kind"], c["parts"]) for c in changed["changes"]] == [("logic changed", ["sql"])]
    done = shop.told("backfill", GROWTH, "--yes")
    assert outcomes(done, "computed", "unchanged") == {(GROWTH, m) for m in MONTHS}


def test_a_rate_plans_the_months_that_looked_it_up(shop: Shop) -> None:
    """Also from the plan, not only in the run: a corrected rate of February is no reason to pay for January."""
    shop.rate("USD", "2024-02-09", "1.7")
    shop.rate("CHF", "2024-01-05", "0.9")
    whole = shop.told("plan", "all")
    assert steps(whole, "compute") == {("bronze.rates", WHOLE)}
    assert steps(whole, "may change") >= of(JANUARY, "gdp.sales")
    whole = shop.told("backfill", "bronze.rates", "silver.rates", "--yes")  # assets without months alone
    assert outcomes(whole, "computed") == {("bronze.rates", WHOLE), ("silver.rates", WHOLE)}

    plan = shop.told("plan", "gdp.sales+")

    assert steps(plan, "compute") == of(FEBRUARY, "gdp.sales")
    assert shop.told("plan", "gdp.sales", "--ledger-only")["plan"] != plan["plan"]
    explained = shop.told("why", "gdp.sales", FEBRUARY, exit_code=3)
    assert [(c["kind"], c["asset"]) for c in explained["changes"]] == [("looked-up rows changed", "silver.rates")]
    assert shop.told("backfill", "gdp.sales+", "--plan", plan["plan"], "--yes")["actual"]["failed"] == 0


def test_a_held_kpi_is_told_and_keeps_no_other_month(shop: Shop) -> None:
    """A month that waits for a person is no failure; the month beside it, whose run it made fail, is still served."""
    shop.sell(0, "-1.00")  # silver rejects it, so that the KPI differs from the ERP
    shop.sell(1, "21.01")

    done = shop.told("backfill", "all", "--yes")

    assert outcomes(done, "held") == of(JANUARY, "kpi.revenue")
    assert outcomes(done, "failed", "not done") == set()
    assert outcomes(done, "computed") >= of(FEBRUARY, *AFTER)
    plan = shop.told("plan", "all")
    assert steps(plan, "held") == of(JANUARY, "kpi.revenue")
    assert steps(plan, "compute", "may change") == set()
    assert shop.told("why", "kpi.revenue", JANUARY, exit_code=4)["status"] == "held"
    shop.sell(0, "11.00")
    assert shop.told("backfill", "all", "--yes")["actual"]["failed"] == 0
    assert shop.told("why", "kpi.revenue", JANUARY)["status"] == "fresh"


def test_a_pin_is_told_and_kept(shop: Shop) -> None:
    """A backfill must not undo what a person decided."""
    rolled = shop.call("rollback", "gdp.sales", "--to", "1", "--partition", JANUARY, "--reason", "wrong rates")
    assert rolled.exit_code == 0, rolled.output
    shop.sell(0, "50.01")

    plan = shop.told("plan", "all")
    done = shop.told("backfill", "all", "--yes")

    assert steps(plan, "pinned") == of(JANUARY, "gdp.sales")
    assert outcomes(done, "failed") == set()
    assert ("gdp.sales", JANUARY) not in outcomes(done, "computed")
    pinned = shop.told("why", "gdp.sales", JANUARY, exit_code=4)
    assert (pinned["status"], pinned["pin"]["reason"]) == ("pinned", "wrong rates")


def test_off_peak_each_run_waits_for_a_window(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heavy backfill must not start a run by day, nor be handed to a daemon that would."""
    platform = shop.project / "platform.yaml"
    before = platform.read_text()
    refused = shop.call("backfill", "all", "--off-peak", "--yes")
    assert "platform.yaml has no off-peak window" in str(refused.exception)
    platform.write_text(f'{before}off_peak: [{{from: "20:00", to: "06:00"}}]\n')
    waits: list[str] = []
    monkeypatch.setattr(launch, "until_open", lambda project, _: waits.append(project.platform.off_peak[0].from_))
    shop.sell(1, "50.01")
    try:
        done = shop.told("backfill", "all", "--off-peak", "--yes")
    finally:
        platform.write_text(before)
    assert done["run_by"] == "process"
    assert done["actual"]["failed"] == 0
    assert waits == ["20:00"] * len(done["runs"])
