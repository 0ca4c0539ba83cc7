"""Every kind of source reaches what is made from it by ticks alone: whole tables, files, pages of an API."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from etl_assets.backfill.plan import BackfillPlan, plan_of
from etl_resources.closure_plan import Action
from tests.crm import CrmLake, crm_lake
from tests.crm import customer as c
from tests.lake import Lake, new_lake
from tests.projects import NATIONS
from tests.rates import rates_lake
from tests.ticks import Asked, Ticker

pytest_plugins = ["tests.lake"]
pytestmark = pytest.mark.timeout(300)


def told(asked: list[Asked]) -> list[tuple[tuple[str, ...], str | None, str | None]]:
    return [(a.layers, a.first, a.last) for a in asked]


def planned(lake: Lake) -> BackfillPlan:
    with lake.environment():
        return plan_of(lake.runtime, ["all"], None, None)


@pytest.fixture
def crm(stack: object, tmp_path: Path) -> Iterator[CrmLake]:
    with crm_lake(tmp_path) as made:
        yield made


@pytest.fixture
def nations(stack: object, tmp_path: Path) -> Iterator[Lake]:
    with new_lake(tmp_path, project=NATIONS) as lake:
        yield lake


@pytest.fixture
def rates(stack: object, tmp_path: Path) -> Iterator[Lake]:
    with rates_lake(tmp_path) as lake:
        yield lake


def test_another_file_is_seen_in_the_listing(crm: CrmLake) -> None:
    """Of a table without partitions: a run without months, of all its layers; a file that is gone is told."""
    crm.drop("a.jsonl.gz", [c(1)])
    assert crm.run() == "published"
    ticker = Ticker(crm.lake)
    assert ticker.tick() == []
    crm.drop("b.jsonl.gz", [c(2)])

    asked = ticker.tick()

    assert told(asked) == [(("bronze", "silver", "postgres"), None, None)]
    done = ticker.run(asked[0])
    assert done.success, done.error
    assert ticker.tick() == []
    crm.prove_right()
    crm.remove("a.jsonl.gz")
    crm.remove("b.jsonl.gz")
    assert ticker.tick() == []
    assert "isn't observed" in ticker.skipped


def test_an_api_is_asked_for_its_pages_once_in_a_while(rates: Lake) -> None:
    """Only a run can look at it; when it finds nothing new, nothing is computed and the next tick is at rest. What is
    made of it alone goes along: a new rate needn't wait for a tick of its own.

    A plan takes it as it is for as long, so that `plan` names exactly what runs; later it names the look, and why.
    """
    done = rates.materialize("2024-01")
    assert done.success, done.error
    ticker = Ticker(rates)
    assert ticker.tick() == []
    plan = planned(rates)
    assert not plan.runs
    assert "bronze.currency_rates is taken as it is: compared with its API 0 minutes ago" in plan.notes[0]

    rates.platform("update etl.publishes set published_at = published_at - interval '61 minutes'")
    (step,) = planned(rates).todo
    assert (step.action, step.note.partition(":")[0]) == (Action.LOOK, "compared with its API 61 minutes ago")
    asked = ticker.tick()
    assert told(asked) == [(("bronze", "silver"), None, None)]
    assert planned(rates).todo, "asked for, and not compared yet"
    assert ticker.run(asked[0]).success

    assert ticker.tick() == []
    assert not planned(rates).runs
    ticker.ahead += timedelta(minutes=61)
    asked = ticker.tick()
    assert told(asked) == [(("bronze", "silver"), None, None)]


def test_a_lookup_without_stamps_reaches_every_month_that_it_is_in(nations: Lake) -> None:
    """The sweep finds the renamed nation; tables of months and tables without them follow each other in order."""
    first, last = "2024-01", "2024-02"
    done = nations.materialize(first, last)
    assert done.success, done.error
    ticker = Ticker(nations)
    ticker.settle()
    nations.erp("update erp.nations set name = 'ATLANTIS' where nation_id = 1")
    assert ticker.settle() == []

    ticker.ahead += timedelta(hours=25)
    asked = told(ticker.settle())

    assert {a for a in asked if a[0] == ("bronze",)} == {(("bronze",), None, None), (("bronze",), first, last)}
    assert (("gdp", "postgres"), first, last) in asked
    found = nations.platform("select distinct nation from analytics.gdp_orders where nation like 'ATL%%'")
    assert found == [("ATLANTIS",)]
    assert nations.platform("select nation from analytics.gdp_turnover where nation_id = 1") == [("ATLANTIS",)]
    assert ticker.tick() == []
