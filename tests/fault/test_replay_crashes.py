"""A replay that dies, that meets another one, or would lose or double a row: each row comes back once, or not yet."""

import gc
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from etl_resources import failpoints
from etl_resources.dead_letters.index import files
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.liveness import alone
from tests.fault.driver import become
from tests.integration.replays import JANUARY, ReplayLake, replay_lake
from tests.lake import execute
from tests.mutated import Mutation

pytestmark = [pytest.mark.timeout(600)]
ORDERS = "silver.orders"
BACK = (2, 1, Decimal("16.00"))


def replay_in_a_process(points: list[Mapping[str, Any]], environment: Mapping[str, str], stem: Path) -> None:
    """What `dead-letters replay silver.orders` does, in a process that ends at a failpoint."""
    become({**environment, failpoints.SETTING: json.dumps(points)}, stem.with_suffix(".log"))
    from etl_assets.graph.runtime import Runtime
    from etl_assets.letters.choice import Choice
    from etl_assets.letters.replay import replay
    from etl_assets.project import load_project

    def run(assets: Any, _: str, first: str, last: str) -> tuple[str, list[str]]:
        done = execute(first, last, [asset.replace(".", "/") for asset in assets])
        return done.run_id, done.errors

    replay(Runtime(load_project()), Choice([ORDERS]), run, print)


@pytest.fixture(scope="module")
def made(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplayLake]:
    """Order 2 has a currency that the rule refuses; with the rule fixed it has a rate."""
    with replay_lake(tmp_path_factory.mktemp("replay")) as lake:
        lake.add_rate("usd", "2024-01-09", "1.25")
        yield lake


@pytest.fixture
def fixed(made: ReplayLake) -> Iterator[ReplayLake]:
    """Rejected and published so; then the rule is corrected. Afterwards it is as wrong as it was."""
    made.run()
    assert rejected(made) == {JANUARY: 1, "2024-03": 1}
    made.edit("orders/manifest.yaml", "[A-Z]{3}", "[A-Za-z]{3}")
    yield made
    made.edit("orders/manifest.yaml", "[A-Za-z]{3}", "[A-Z]{3}")


def rejected(made: ReplayLake) -> dict[str, int]:
    """Partition → visible letters of silver.orders."""
    with Ledger.open(made.lake.settings) as ledger:
        return {f.partition: f.rows for f in files(ledger.connection, "current", [ORDERS])}


def prove_back(made: ReplayLake) -> None:
    """Once, in every layer, and nothing else changed."""
    assert rejected(made) == {"2024-03": 1}
    assert [r for r in made.lake.rows("gdp/sales", "order_id, line_number, amount_eur") if r[0] == 2] == [BACK]
    assert JANUARY in made.epochs("postgres.analytics.revenue")
    assert made.lake.platform("select replay from etl.replays where finished_at is null") == []
    made.prove_right()


@pytest.mark.parametrize(
    ("point", "match"),
    [("replay.recorded", ORDERS), ("publish.committed", ORDERS), ("plan.recorded", "gdp.sales")],
)
def test_a_replay_that_dies_is_gone_on_with(fixed: ReplayLake, point: str, match: str) -> None:
    """Also where the rows are back already and what depends on them isn't: the same command ends it."""
    child = fixed.lake.fork(replay_in_a_process, [{"point": point, "match": match, "action": "kill"}])
    assert child.wait() is None, child.log

    done = fixed.json(f"replay {ORDERS}")

    assert done["errors"] == []
    assert done["recomputed"][ORDERS] == [JANUARY]
    prove_back(fixed)


def test_two_replays_of_a_table_take_turns(fixed: ReplayLake) -> None:
    """The second one says so; it would judge letters that the first one is about to bring back."""
    with Ledger.open(fixed.lake.settings) as ledger, alone(ledger, f"replay:{ORDERS}") as is_alone:
        assert is_alone
        assert "Another replay of silver.orders is under way" in fixed.fails(f"replay {ORDERS}")
    assert fixed.json(f"replay {ORDERS}")["restored"] == 1
    prove_back(fixed)


@pytest.mark.parametrize("instead", ["add=files[1:],", "add=[*files, *files],"], ids=["lost rows", "doubled rows"])
def test_a_replay_that_would_lose_or_double_rows_publishes_nothing(fixed: ReplayLake, instead: str) -> None:
    """What is about to be published is counted: the letters stay open, what is published stays."""
    before = fixed.epochs(ORDERS)
    with Mutation("etl_resources.tables.stage", "stage", "add=files,", instead).made():
        done = fixed.json(f"replay {ORDERS}", 1)
    assert "would be published" in done["errors"][0]
    gc.collect()  # Dagster drops the step that failed in its IO manager without closing it
    assert (fixed.epochs(ORDERS), rejected(fixed)) == (before, {JANUARY: 1, "2024-03": 1})
    assert fixed.json(f"replay {ORDERS}")["errors"] == []
    prove_back(fixed)
