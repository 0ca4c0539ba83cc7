"""Dead letters for people: what was rejected is shown, and comes back exactly once when its reason was fixed."""

from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.integration.lookups_project import REASON
from tests.integration.replays import FEBRUARY, JANUARY, MARCH, ReplayLake, replay_lake

ORDERS, LINES, SALES, REVENUE = "silver.orders", "silver.lines", "gdp.sales", "kpi.revenue"
WRONG = "currency does not match [A-Z]{3}"


@pytest.fixture(scope="module")
def made(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplayLake]:
    with replay_lake(tmp_path_factory.mktemp("replay")) as lake:
        yield lake


def euros(made: ReplayLake) -> list[tuple[object, ...]]:
    return sorted(made.lake.rows("gdp/sales", "order_id, line_number, amount_eur"))


def test_rejected_rows_are_told_and_come_back_when_their_reason_is_fixed(made: ReplayLake) -> None:
    """The life of letters, from the first run to the full result of a clean source: one lake, because each step builds
    on the one before."""
    first = made.run()
    assert not first.success, "a KPI doesn't reconcile where silver rejected"
    assert first.published("kpi/revenue") == {FEBRUARY}
    assert euros(made) == [(1, 1, Decimal("8.00")), (4, 1, Decimal("4.00")), (6, 1, Decimal("6.40"))]

    told = {(g["table"], g["rule"], g["column"], g["reason"]): g["letters"] for g in made.json("list")}
    assert told == {
        (ORDERS, "matches", "currency", WRONG): 2,
        (LINES, "ge", "amount", "amount is not >= 0"): 1,
        (SALES, "not_null", "currency", "currency is null"): 2,
        (SALES, "not_null", "amount_eur", REASON): 4,
    }
    (usd,) = made.json(f"list orders --by-partition --partitions {JANUARY}")
    assert (usd["partition"], usd["sample"]["key"], usd["sample"]["value"]) == (JANUARY, '{"order_id":2}', "usd")
    shown = made.call(f"show {ORDERS} --partitions {JANUARY}")
    for part in (
        "usd",
        'key {"order_id":2}',
        "from     bronze.orders",
        "seen     1 times",
        '"order_date":"2024-01-10"',
    ):
        assert part in shown, shown

    nothing = made.json("replay")
    assert (nothing["restored"], nothing["recomputed"], nothing["run_ids"]) == (0, {}, [])
    assert {v["note"] for v in nothing["partitions"]} == {"neither its rules nor its inputs changed since"}
    assert "nothing comes back" in made.call("replay orders")

    before = {asset: made.epochs(asset) for asset in (ORDERS, LINES, SALES, REVENUE)}
    made.edit("orders/manifest.yaml", "[A-Z]{3}", "[A-Za-z]{3}")
    dry = made.json(f"replay {ORDERS} --dry-run")
    assert {v["partition"]: (v["back"], v["still"]) for v in dry["partitions"]} == {JANUARY: (1, 0), MARCH: (0, 1)}
    assert dry["partitions"][1]["stays"] == {"currency does not match [A-Za-z]{3}": 1}
    assert dry["recomputed"] == {t: [JANUARY] for t in (ORDERS, SALES, REVENUE, "postgres.analytics.revenue")}
    assert {asset: made.epochs(asset) for asset in before} == before, "a dry run changes nothing"

    done = made.json(f"replay {ORDERS}")
    assert (done["restored"], done["errors"]) == (1, [])
    assert {v["partition"]: (v["back"], v["still"]) for v in done["partitions"]} == {JANUARY: (1, 0), MARCH: (0, 1)}
    after = {asset: made.epochs(asset) for asset in before}
    for asset in (ORDERS, SALES):
        changed = {p for p, e in after[asset].items() if e != before[asset].get(p)}
        assert changed == {JANUARY}, asset
    assert after[REVENUE].keys() == {JANUARY, FEBRUARY}, "the month reconciles now: what has no rate is told to it"
    (back,) = made.json(f"list {ORDERS} --status replayed")
    assert (back["letters"], back["sample"]["value"]) == (1, "usd")
    assert made.json(f"replay {ORDERS}")["recomputed"] == {}
    made.prove_right()

    made.add_rate("RUB", "2024-02-19", "100")
    made.add_rate("usd", "2024-01-09", "1.25")
    made.lake.materialize(JANUARY, selection=["bronze/rates", "silver/rates"])
    lookup = made.json("replay sales")
    assert {v["partition"]: (v["back"], v["still"]) for v in lookup["partitions"]} == {
        JANUARY: (1, 0), FEBRUARY: (2, 0), MARCH: (0, 1),
    }  # fmt: skip
    made.prove_right()

    made.edit("orders/manifest.yaml", "[A-Za-z]{3}", "[A-Za-z]{2,3}")
    made.edit("lines/manifest.yaml", "{ge: 0}", '{ge: "-5"}')
    made.add_rate("EU", "2024-03-04", "2")
    made.lake.materialize(JANUARY, selection=["bronze/rates", "silver/rates"])
    rest = made.json("replay")
    assert (rest["errors"], made.json("list")) == ([], [])
    assert euros(made) == [
        (1, 1, Decimal("8.00")), (2, 1, Decimal("16.00")), (3, 1, Decimal("0.30")), (3, 2, Decimal("0.00")),
        (4, 1, Decimal("4.00")), (5, 1, Decimal("3.50")), (6, 1, Decimal("6.40")), (6, 2, Decimal("-0.80")),
    ]  # fmt: skip
    made.prove_right()
    clean = made.run()
    assert clean.success, clean.error
    assert clean.published("kpi/revenue") == set(), "the replays left nothing to do"
