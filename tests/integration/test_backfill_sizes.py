"""`plan --size` and `backfill --size` on a small lake: priced, hashed, launched, and gone on with at that size (M1)."""

from collections.abc import Iterator

import pytest

from tests.integration.backfill_child import run_command
from tests.integration.backfill_shop import Shop, new_shop, of, outcomes, steps
from tests.property.tiny_sales import MONTHS

pytestmark = pytest.mark.timeout(1800)
JANUARY, FEBRUARY, _ = MONTHS
GROWTH = "kpi.growth"
SIZES = """sizes:
  medium: {duckdb: {threads: 1, memory_mb: 256}}
  large:
    duckdb: {threads: 1, memory_mb: 256}
    spark: {cores: 1, memory_mb: 768, shuffle_partitions: 2}
  xlarge: {duckdb: {threads: 4, memory_mb: 1024}}
"""


@pytest.fixture(scope="module")
def shop(stack: object, java: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """With a size on Spark, whose hours have a price, and one that needs an approval."""
    with new_shop(tmp_path_factory.mktemp("shop")) as made:
        platform, sales = made.project / "platform.yaml", made.project / "datasets/sales/manifest.yaml"
        text = platform.read_text().replace('"0.36"}}', '"0.36"}, large: {duckdb: "0.36", spark: "3.60"}}')
        platform.write_text(text.replace("sizes: {medium: {duckdb: {threads: 1, memory_mb: 256}}}\n", SIZES))
        sales.write_text(f"{sales.read_text()}runner: {{partition_hint: 3, shuffle_partition_hint: 5}}\n")
        yield made


def test_killed_it_goes_on_at_the_size_that_was_asked_for(shop: Shop) -> None:
    """A person paid for a large backfill: neither the hash nor a kill may let the rest of it run at another size."""
    shop.sell(0, "30.01")
    small, plan = shop.told("plan", "all"), shop.told("plan", "all", "--size", "large")
    assert plan["plan"] != small["plan"]
    assert steps(plan, "compute", "may change") == steps(small, "compute", "may change")
    told = {a["asset"]: (a["size"], a["engine"]) for a in plan["assets"]}
    assert (told["bronze.orders"], told["gdp.sales"]) == (("large", "duckdb"), ("large", "spark"))
    bases = {a["seconds_from"] for a in plan["assets"] if a["asset"] == "gdp.sales"}
    assert bases == {"no history at size large on spark: that at size medium on duckdb"}
    assert plan["by_size"]["medium"]["cost"] == small["cost"]
    assert plan["cost"]["value"] == pytest.approx(small["cost"]["value"] * 10, rel=0.2), "of an equally long run"
    assert "--size large  " in shop.call("plan", "all").output

    epoch = shop.epoch
    command = ("backfill", "all", "--plan", plan["plan"], "--yes")  # the plan tells the size
    point = {"point": "plan.intended", "action": "kill", "match": GROWTH}
    child = shop.lake.fork(run_command, command, [point])
    assert child.wait(900) is None, child.log
    other = shop.call("backfill", "all", "--plan", plan["plan"], "--size", "medium", "--yes")
    assert "it is at size large: leave out --size to go on with it" in str(other.exception)
    done = shop.told("backfill", "all", "--yes")

    assert outcomes(done, "failed", "not done") == set()
    assert outcomes(done, "computed") >= of(JANUARY, "gdp.sales", GROWTH) | of(FEBRUARY, GROWTH)
    sized = shop.lake.platform(
        "select distinct i.asset, i.size, i.engine from etl.intents i join etl.intent_partitions p using (attempt) "
        "where p.epoch > %s", epoch,
    )  # fmt: skip
    assert {("bronze.lines", "large", "duckdb"), ("gdp.sales", "large", "spark")} <= set(sized)
    assert {(size, engine) for asset, size, engine in sized if asset == GROWTH} == {("large", "spark")}
    ((asked, raised),) = shop.lake.platform(
        "select size, raised_to from etl.backfills where backfill = %s", done["backfill"]
    )
    assert (asked, raised) == ("large", None)
    assert steps(shop.told("plan", "all"), "compute", "may change") == set(), "an engine is no logic"
    history = shop.told("plan", "all", "--size", "large", "--from", JANUARY)
    assert history["plan"] != shop.told("plan", "all", "--from", JANUARY)["plan"]


def test_estimates_learn_by_size(shop: Shop) -> None:
    """What Spark took says nothing of the embedded engine, which is what `medium` costs."""
    shop.sell(0, "30.02")
    by_size = shop.told("plan", "all")["by_size"]
    bases = {size: found["seconds_from"]["gdp.sales"] for size, found in by_size.items()}
    assert all(basis.endswith(("attempt", "attempts")) for basis in bases.values()), bases
    assert "xlarge" not in by_size


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ("xlarge", "--size: size xlarge needs an approval, and there are no approvals yet: take a smaller size"),
        ("lrge", "--size: unknown size 'lrge'; did you mean 'large'? Valid: medium, large"),
    ],
)
def test_a_size_that_nobody_may_run_is_refused(shop: Shop, size: str, told: str) -> None:
    """By every command, before anything is looked at."""
    for command in (("plan", "all"), ("backfill", "all", "--yes")):
        refused = shop.call(*command, "--size", size)
        assert refused.exit_code == 1
        assert told in str(refused.exception)


def test_a_freshness_that_the_estimate_misses_raises_the_size(shop: Shop) -> None:
    """As far as the manifest allows; the runs of the others stay as they are, and the category's lie is told."""
    manifest = shop.project / "datasets/revenue/manifest.yaml"
    before = manifest.read_text()
    shop.sell(1, "60.01")
    extra = "freshness: {within_hours: 0.0001}\nrunner: {size: medium, up_to: large, size_category: large}\n"
    manifest.write_text(before + extra)
    try:
        plan = shop.told("plan", "all")
        done = shop.told("backfill", "all", "--plan", plan["plan"], "--yes")
    finally:
        manifest.write_text(before)
    told = {a["asset"]: (a["size"], a["engine"]) for a in plan["assets"]}
    if plan["raised_to"] is None:  # measured: Spark is slower on so little
        assert any("no larger size that is allowed was faster" in note for note in plan["notes"])
    else:
        assert told["kpi.revenue"] == ("large", "spark")
        assert any("raised up to size large" in note for note in plan["notes"])
    assert (told["gdp.sales"], told[GROWTH]) == (("medium", "duckdb"), ("medium", "duckdb"))
    assert any("revenue declares size_category large" in note and "that is small" in note for note in plan["notes"])
    assert outcomes(done, "failed", "not done") == set()
