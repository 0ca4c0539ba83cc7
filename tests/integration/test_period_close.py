"""A closed month keeps its figures: late data waits for a named person, and consumers hear of what changed (U1)."""

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from etl_assets.backfill.plan import plan_of
from etl_assets.cli.main import app
from etl_assets.maintain import maintain
from etl_assets.query import run_query
from etl_assets.recover import recover
from etl_assets.versions import roll_back
from etl_resources.closing import Closer
from etl_resources.engines.embedded import connect
from etl_resources.errors import PermanentError
from etl_resources.ledger.ledger import Ledger
from tests.closed_books import CLOSED_JAN, FEB, JAN, REVENUE, SERVED, ClosedBooks, closed_books
from tests.property.tiny_sales import State
from tests.ticks import Ticker

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def books(stack: object, tmp_path: Path) -> Iterator[ClosedBooks]:
    with closed_books(tmp_path) as made:
        yield made


def test_late_data_of_a_closed_month_waits_for_a_person(books: ClosedBooks) -> None:
    """What is closed stays published and served; what waits is explained; accepted, it is published and told."""
    done = books.close()
    assert (done.closing.by, done.closing.tag, done.closing.version) == ("ana", "close-2024-01", done.current.version)
    assert books.why().status == "closed"
    before = books.publishes()
    books.sell("1.00", line=3)

    run = books.run(last=FEB)

    assert "kpi.revenue, partition 2024-01 failed its audit: closed_period: period closed on " in run.error
    assert "`data-pipeline accept kpi.revenue 2024-01` publishes it" in run.error
    assert books.publishes() == before
    assert books.served() == CLOSED_JAN
    assert books.why().status == "held"
    (held,) = books.waiting()
    (check,) = held.findings["checks"]
    assert [(d["group"], d["measure"], d["here"], d["there"]) for d in check["differences"]] == [
        ("2024-01-01 / EUR", "lines", "3", "2"), ("2024-01-01 / EUR", "amount", "11.11", "10.11"),
    ]  # fmt: skip
    assert books.send() == 0

    accepted = books.accept()

    assert accepted.published, accepted.problem
    assert books.served() == [("EUR", 3, Decimal("11.11")), ("USD", 1, Decimal("5.55"))]
    assert books.why().status == "closed"
    assert books.send() == 1
    assert books.send() == 0, "once"
    (notice,) = books.hook.of("restatement")
    assert (notice["asset"], notice["partition"], notice["late_data"]) == (REVENUE, JAN, "approval")
    assert (notice["accepted_by"], notice["accepted_because"]) == ("carla", "approved by the CFO")
    assert (notice["closed"]["by"], notice["closed"]["tag"]) == ("ana", "close-2024-01")
    assert (notice["before"]["version"], notice["after"]["version"]) == (before[-1][1], held.version)
    assert [notice[f"rows_{what}"] for what in ("added", "removed", "changed")] == [0, 0, 1]
    assert notice["totals"] == {"amount": {"before": "15.66", "after": "16.66"}}
    assert notice["targets"] == [SERVED]
    with run_query(
        books.lake.runtime, f"select sum(amount) from {REVENUE} where month = '2024-01-01'", "close-2024-01"
    ) as q:
        assert [row for batch in q.batches for row in batch] == [(Decimal("15.66"),)]
    books.prove_right()


def test_only_what_is_up_to_date_is_closed(books: ClosedBooks) -> None:
    """Never computed, stale, held or closed twice: refused, with the reason, and nothing is closed."""
    with pytest.raises(PermanentError, match=r"2024-03 is never computed"):
        books.close("2024-03")
    books.sell("1.00", line=3)
    assert books.run(selection=["bronze/orders", "bronze/lines", "silver/orders", "silver/lines"]).success
    with pytest.raises(
        PermanentError, match=r"2024-01 is behind \(gdp\.sales 2024-01 is out of date\)\. Only what is up"
    ):
        books.close()
    assert books.tags() == set()
    assert books.run().success
    books.close()
    with pytest.raises(
        PermanentError, match=r"2024-01 was closed on .* by ana \(June close\), release close-2024-01\."
    ):
        books.close()
    with pytest.raises(PermanentError, match=r"2024-02 is not closed"):
        books.reopen(FEB)
    with pytest.raises(PermanentError, match=r"2024-01 was closed on .* Reopen it first"):
        roll_back(books.lake.runtime, REVENUE, "1", (JAN,), "", dry_run=True)


def test_equal_content_is_published_as_ever(books: ClosedBooks) -> None:
    """Late data that changes no figure waits for nobody; a line that comes and goes leaves nothing waiting."""
    books.close()
    books.show(State({**books.state.orders, 3: (date(2024, 1, 9), "EUR")}, books.state.lines))
    run = books.run()
    assert run.success, run.error
    books.sell("1.00", line=3)
    assert not books.run().success
    books.show(State(books.state.orders, {k: v for k, v in books.state.lines.items() if k != (1, 3)}))
    again = books.run()
    assert again.success, again.error
    assert books.waiting() == []
    assert books.served() == CLOSED_JAN
    books.prove_right()


def test_a_reopened_month_follows_its_inputs_and_can_be_closed_again(books: ClosedBooks) -> None:
    """Its first figures stay readable under their name."""
    books.close()
    books.sell("1.00", line=3)
    assert not books.run().success
    assert len(books.waiting()) == 1

    books.reopen()

    assert books.waiting() == []
    run = books.run()
    assert run.success, run.error
    assert books.served()[0] == ("EUR", 3, Decimal("11.11"))
    assert books.send() == 0, "what isn't closed is no restatement"
    assert books.close(note="").closing.tag == "close-2024-01-2"
    assert books.tags() == {"close-2024-01", "close-2024-01-2"}
    books.prove_right()


def test_the_sensor_leaves_what_waits_alone(books: ClosedBooks) -> None:
    """Late data reaches the closed month by itself, once, and dependants go on with what is published."""
    books.close()
    ticker = Ticker(books.lake)
    for _ in range(2):
        for asked in ticker.tick():
            ticker.run(asked)
    books.sell("1.00", line=3)
    assert books.run(selection=["bronze/orders", "bronze/lines"]).success
    (asked,) = ticker.tick()
    assert "kpi/revenue" in asked.assets
    assert not ticker.run(asked).success
    assert ticker.tick() == []
    assert "pinned, held or without an input: 1" in ticker.skipped
    plan = plan_of(books.lake.runtime, ["kpi.revenue"], JAN, JAN)
    assert [s.action.value for s in plan.closure_plan.steps.values()] == ["held"]
    books.hook.answer = 503
    assert books.accept().published
    ticker.tick()
    assert books.hook.of("restatement") == []
    books.hook.answer = 200
    ticker.tick()
    ticker.tick()
    assert len(books.hook.of("restatement")) == 1


def test_maintenance_keeps_what_was_closed(books: ClosedBooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the table is published since, and although only one version is kept."""
    books.close()
    for n in range(3):
        books.sell(f"{n}.50", line=9)
        assert not books.run().success
        assert books.accept().published
    lake = books.lake
    lake.env |= {"ETL_MAINTAIN_KEEP_VERSIONS": "1", "ETL_MAINTAIN_MAX_VERSIONS": "1", "ETL_MAINTAIN_GUARD_S": "0"}
    for name in ("settings", "runtime"):
        lake.__dict__.pop(name, None)

    done = maintain(lake.runtime, [REVENUE], lambda _: None)

    assert done.tables[0].snapshots_expired > 0, done.as_json()
    sql = f"select currency, lines, amount from {REVENUE} where month = '2024-01-01' order by 1"
    with run_query(lake.runtime, sql, "close-2024-01") as found:
        assert [row for batch in found.batches for row in batch] == CLOSED_JAN
    books.prove_right()


def test_a_lost_ledger_knows_what_was_closed(books: ClosedBooks) -> None:
    """From the evidence of what is published since; a reopened month is not closed again, and nobody is told twice."""
    books.close()
    books.close(FEB)
    books.reopen(FEB)
    books.sell("1.00", line=3)
    assert not books.run().success
    assert books.accept().published
    assert books.send() == 1
    books.run("2024-03")
    before = {(c, p) for c, p in books.lake.platform("select partition, by_whom from etl.current_closings")}
    assert before == {(JAN, "ana")}

    books.lake.platform("drop schema etl cascade")
    recover(books.lake.runtime)

    assert {(c, p) for c, p in books.lake.platform("select partition, by_whom from etl.current_closings")} == before
    assert books.send() == 0
    books.sell("2.00", line=4)
    assert "closed_period" in books.run().error


@pytest.mark.long
def test_a_closing_that_was_fenced_is_none_in_a_rebuilt_ledger(books: ClosedBooks) -> None:
    """The publish that was faster remembers a closing that was under way, and never came to be."""
    with Ledger.open(books.lake.settings) as ledger, connect(books.lake.settings) as engine:
        runtime = books.lake.runtime
        closer = Closer(runtime.store, ledger, engine, runtime.addresses[REVENUE], runtime.letters_addresses[REVENUE])
        closer._intend("closed", JAN, "ana", "", "close-test", lambda _: None)
        books.sell("1.00", line=3)
        assert not books.run().success
        assert books.accept().published
    books.lake.platform("drop schema etl cascade")
    recover(books.lake.runtime)
    assert not books.closed()
    assert books.close().closing.tag == "close-2024-01"


def test_the_commands_close_tell_and_reopen(books: ClosedBooks) -> None:
    """What a person types."""

    def typed(*arguments: str, code: int = 0) -> str:
        with books.lake.environment(DAGSTER_HOME=str(books.lake.home)):
            done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == code, f"{done.output}{done.exception!r}"
        return done.stdout

    assert "would close kpi.revenue 2024-01: 2 rows" in typed("close", "revenue", JAN, "--by", "ana", "--dry-run")
    assert typed("closings") == "nothing is closed\n"
    assert "closed kpi.revenue 2024-01: 2 rows" in typed("close", "kpi.revenue", JAN, "--by", "ana", "--note", "Q1")
    assert "kpi.revenue 2024-01: closed on" in typed("closings")
    (listed,) = json.loads(typed("closings", "revenue", "--json"))
    assert (listed["by"], listed["note"], listed["tag"]) == ("ana", "Q1", "close-2024-01")
    assert "it was closed on " in typed("why", REVENUE, JAN)
    shown = typed("sql", "--as-of", "close-2024-01", "--csv", f"select count(*) as n from {REVENUE}")
    assert shown.split() == ["n", "2"]
    books.sell("1.00", line=3)
    assert books.run(selection=["bronze/orders", "bronze/lines", "silver/orders", "silver/lines", "gdp/sales"]).success
    assert "another content will wait for approval" in typed("plan", REVENUE, "--from", JAN, "--to", JAN)
    assert not books.run().success
    assert "closed_period" in typed("acceptance", "list")
    assert "amount" in typed("acceptance", "show", "revenue", JAN)
    assert "published kpi.revenue 2024-01" in typed("accept", "revenue", JAN, "--by", "carla", "--reason", "ok")
    assert len(books.hook.of("restatement")) == 1
    arguments = ("reopen", "revenue", JAN, "--by", "bo", "--reason", "wrong")
    assert "would reopen kpi.revenue 2024-01, closed on " in typed(*arguments, "--dry-run")
    assert "reopened kpi.revenue 2024-01" in typed(*arguments)
    assert typed("closings") == "nothing is closed\n"


def test_dagster_shows_who_closed_and_what_was_restated(books: ClosedBooks) -> None:
    """On the materialization of a closed month, pruned or restated."""
    books.close()
    pruned = books.run()
    assert pruned.materializations("kpi/revenue")[JAN].metadata["closed"].value.startswith("closed on ")
    books.sell("1.00", line=3)
    assert not books.run().success
    books.lake.platform("update etl.held set accepted_by = 'carla', reason = 'ok', accepted_at = now()")
    restated = books.run()
    assert restated.success, restated.error
    metadata = restated.materializations("kpi/revenue")[JAN].metadata
    assert (metadata["restated"].value, metadata["accepted_by"].value) == ("approval", "carla")
    assert metadata["sum of amount"].value == "15.66 → 16.66"


def test_rows_that_leave_a_closed_month_wait_with_the_month_that_they_enter(books: ClosedBooks) -> None:
    """An order that moves from January to February is in one of them, before and after the approval; until then neither
    the sensor nor a plan asks for a run, which would publish nothing."""
    books.close()
    books.run(last=FEB)
    ticker = Ticker(books.lake)
    for _ in range(2):
        for asked in ticker.tick():
            ticker.run(asked)
    moved: dict[Any, Any] = {**books.state.orders, 1: (date(2024, 2, 5), "EUR")}
    books.show(State(moved, books.state.lines))
    run = books.run(last=FEB)
    assert "exchanged rows with a partition that failed" in run.error or "2024-01 failed its audit" in run.error
    assert ticker.tick() == []
    assert "pinned, held or without an input: 2" in ticker.skipped
    plan = plan_of(books.lake.runtime, ["kpi.revenue"], JAN, FEB)
    assert [s.action.value for s in plan.closure_plan.steps.values()] == ["held", "held"]
    total = "select coalesce(sum(amount), 0) from analytics.revenue"
    assert books.lake.platform(total) == [(Decimal("15.66"),)]
    assert books.accept().published
    assert books.run(last=FEB).success
    assert books.lake.platform(total) == [(Decimal("15.66"),)]
    assert books.served(FEB) == [("EUR", 2, Decimal("10.11"))]
    assert books.served() == [("USD", 1, Decimal("5.55"))]
    books.prove_right()
