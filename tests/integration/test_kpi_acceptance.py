"""A KPI outside its threshold waits, explained, until a named person accepts exactly that content (M15)."""

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from etl_assets.cli.main import app
from etl_assets.kpi_acceptance import held_rows
from etl_assets.recover import recover
from etl_assets.versions import list_versions
from etl_resources.errors import PermanentError
from etl_resources.ledger.ledger import Ledger
from etl_resources.tables.orphans import delete_orphans
from tests.property.tiny_sales import MONTHS, REVENUE
from tests.refused_kpi import MONTH, RefusedKpi, refused_kpi

pytestmark = pytest.mark.timeout(300)
BEFORE = [("EUR", 2, Decimal("10.11")), ("USD", 1, Decimal("5.55"))]


@pytest.fixture
def kpi(stack: object, tmp_path: Path) -> Iterator[RefusedKpi]:
    with refused_kpi(tmp_path) as made:
        yield made


def test_a_refused_kpi_waits_and_is_explained(kpi: RefusedKpi) -> None:
    """What is published stays; who is asked finds the groups that differ and the rows that explain it."""
    run = kpi.run()

    assert "failed its audit: reconciled: " in run.error
    assert "`data-pipeline accept kpi.revenue 2024-01` publishes it" in run.error
    assert kpi.served() == BEFORE
    (held,) = kpi.waiting()
    (check,) = held.findings["checks"]
    assert [(d["group"], d["measure"], d["here"], d["there"]) for d in check["differences"]] == [
        ("2024-01-01 / EUR", "lines", "3", "4"), ("2024-01-01 / EUR", "amount", "11.11", "8.11"),
    ]  # fmt: skip
    (rejected,) = held.findings["rejected"]
    assert (rejected["asset"], rejected["reason"], rejected["rows"]) == ("silver.lines", "amount is not >= 0", 1)
    assert rejected["sample"]["key"] == '{"order_id":1,"line_number":3}'
    assert rejected["sample"]["value"] == "-3.00"
    columns, _, rows = held_rows(kpi.lake.runtime, held, 10)
    assert dict(zip(columns, rows[0], strict=True))["amount"] == Decimal("11.11")

    with Ledger.open(kpi.lake.settings) as ledger:  # a cleaning spares what waits
        address, catalog = kpi.lake.runtime.addresses[REVENUE], kpi.lake.runtime.store.catalog
        deleted = delete_orphans(catalog, address, ledger, older_than=timedelta(0))
    assert held.path not in [o.path for o in deleted]
    assert held_rows(kpi.lake.runtime, held, 10)[2] == rows


def test_what_a_person_accepts_is_published_with_the_name(kpi: RefusedKpi) -> None:
    """By the ordinary step and its protocol: the target follows, the evidence and Dagster have name and reason."""
    assert not kpi.run().success
    assert kpi.accept(dry_run=True).acceptance is None
    assert kpi.served() == BEFORE

    done = kpi.accept()

    assert done.published, done.problem
    assert kpi.served() == [("EUR", 3, Decimal("11.11")), ("USD", 1, Decimal("5.55"))]
    assert kpi.waiting() == []
    ((staged,),) = kpi.lake.platform(
        "select staged -> 'accepted' from etl.publishes join etl.intent_partitions using (attempt, partition) "
        "where asset = %s and publishes.epoch = %s", REVENUE, done.epoch)  # fmt: skip
    assert (staged["accepted_by"], staged["accepted_because"]) == ("ana", "a return, booked later")
    again = kpi.run()
    assert again.success, again.error
    assert again.statuses["kpi/revenue"] == {MONTH: "pruned"}
    kpi.prove_right()


def test_dagster_shows_who_accepted_and_what_differs(kpi: RefusedKpi) -> None:
    """On the materialization, and as a warning of the check with a table of the differences."""
    refused = kpi.run()
    (evaluation,) = [
        e.asset_check_evaluation_data
        for e in refused.events
        if e.event_type_value == "ASSET_CHECK_EVALUATION" and e.asset_check_evaluation_data.check_name == "reconciled"
    ]
    assert not evaluation.passed
    assert "| 2024-01-01 / EUR | amount | 11.11 | 8.11 |" in str(evaluation.metadata["differences_by_group"].value)
    (held,) = kpi.waiting()
    kpi.lake.platform("update etl.held set accepted_by = 'ana', reason = 'known', accepted_at = now()")

    run = kpi.run()

    assert run.success, run.error
    metadata = run.materializations("kpi/revenue")[MONTH].metadata
    assert (metadata["accepted_by"].value, metadata["accepted_because"].value) == ("ana", "known")
    assert metadata["run_token"].value == held.token


def test_an_acceptance_is_of_the_content_that_was_judged(kpi: RefusedKpi) -> None:
    """Other inputs are judged again: nobody has accepted what they give, and it isn't published in his name."""
    kpi.run()
    (before,) = kpi.waiting()
    kpi.sell("2.00", line=5)
    upstream = ["bronze/orders", "bronze/lines", "silver/orders", "silver/lines", "gdp/sales"]
    assert kpi.lake.materialize(MONTH, selection=upstream).success

    done = kpi.accept()

    assert not done.published
    assert "the new result waits" in (done.problem or "")
    assert kpi.served() == BEFORE
    (after,) = kpi.waiting()
    assert after.token != before.token
    assert after.acceptance is None


def test_a_kpi_that_is_right_again_waits_no_more(kpi: RefusedKpi) -> None:
    """The source was corrected: what is published is pruned, and there is nothing to accept."""
    kpi.run()
    assert len(kpi.waiting()) == 1
    kpi.correct()
    run = kpi.run()
    assert run.success, run.error
    assert kpi.waiting() == []
    with pytest.raises(PermanentError, match=r"partition '2024-01' waits for nobody\. Partitions of it that do: none"):
        kpi.accept()


def test_totals_that_change_alone_are_compared_again(kpi: RefusedKpi) -> None:
    """A row that silver rejects changes no table that the KPI reads, and yet the ERP says something else now."""
    kpi.correct()
    first = kpi.run(last=MONTHS[1])
    assert first.success, first.error
    kpi.sell("-3.00")

    run = kpi.run(last=MONTHS[1])

    assert {m: run.statuses["gdp/sales"][m] for m in MONTHS[:2]} == dict.fromkeys(MONTHS[:2], "pruned")
    assert "reconciled: " in run.error
    assert "EUR: amount 10.11 here, 7.11 in the capture" in run.error
    assert run.statuses["kpi/revenue"][MONTHS[1]] == "pruned"
    (held,) = kpi.waiting()
    (rejected,) = held.findings["rejected"]
    assert (rejected["asset"], rejected["reason"], rejected["rows"]) == ("silver.lines", "amount is not >= 0", 1)
    done = kpi.accept()
    assert done.published, (done.problem, done.errors)

    kpi.lake.platform("delete from etl.control_totals")  # captured again: the same totals at another epoch
    again = kpi.run(last=MONTHS[1])
    assert again.success, again.error
    assert again.statuses["bronze/lines"] == dict.fromkeys(MONTHS[:2], "unchanged")
    assert again.statuses["kpi/revenue"] == dict.fromkeys(MONTHS[:2], "pruned")
    kpi.lake.platform("drop schema etl cascade")
    recover(kpi.lake.runtime)
    rebuilt = kpi.run(last=MONTHS[1])
    assert rebuilt.success, rebuilt.error
    assert rebuilt.statuses["kpi/revenue"] == dict.fromkeys(MONTHS[:2], "pruned")
    kpi.prove_right()


def test_of_two_who_accept_one_does(kpi: RefusedKpi) -> None:
    """The other one is told who was faster; the same person again goes on."""
    kpi.run()
    kpi.lake.platform("update etl.held set accepted_by = 'bo', reason = 'known', accepted_at = now()")
    with pytest.raises(PermanentError, match=r"was accepted by bo at .* already \(known\)\. Materialize it"):
        kpi.accept("ana")
    assert kpi.accept("bo").published
    assert len(kpi.publishes()) == 2


def test_a_kpi_that_moves_too_far_waits_and_its_old_logic_stays_readable(kpi: RefusedKpi) -> None:
    """A new logic is a new version beside the old one: named before it is replaced, and accepted by a person."""
    kpi.correct()
    root = Path(kpi.lake.env["ETL_PROJECT"]) / "datasets" / "revenue"
    manifest, sql = root / "manifest.yaml", root / "revenue.sql"
    text = manifest.read_text()
    old = '{reconcile: {system: erp, sql: reconcile.sql, compare: {orders: "0", lines: "0", amount: "0.00"}}}'
    assert old in text
    manifest.write_text(text.replace(old, '{change: {within: {amount: "0.10"}, by: [currency]}}')
                        .replace("  sql: revenue.sql\n", "  sql: revenue.sql\n  version: 2\n"))  # fmt: skip
    twice = "sum(case when currency = 'EUR' then amount * 2 else amount end)"
    sql.write_text(sql.read_text().replace("sum(amount)", twice))
    kpi.lake.__dict__.pop("runtime", None)  # it knows the project as it was

    run = kpi.run()

    assert "within_change: " in run.error
    assert "EUR: amount 20.22 here, 10.11 published" in run.error
    assert kpi.served() == BEFORE
    done = kpi.accept(reason="euros count twice from now on")
    assert done.published, (done.problem, done.errors)
    assert kpi.served()[0] == ("EUR", 2, Decimal("20.22"))
    versions = list_versions(kpi.lake.runtime, REVENUE).versions
    names = {v.number: list(v.names) for v in versions}
    assert [n.startswith("logic-v1-") for n in names[max(names) - 1]] == [True]
    assert names[max(names)] == []


def test_any_table_may_be_compared_with_control_totals(kpi: RefusedKpi) -> None:
    """As a check: gdp lacks the line that silver rejected, and isn't published; nobody can accept that."""
    root = Path(kpi.lake.env["ETL_PROJECT"]) / "datasets" / "sales"
    (root / "captured.sql").write_text(
        "select date_trunc('month', o.order_date)::date as order_date, o.currency, count(*) as rows, "
        "sum(l.amount) as amount from erp.orders as o join erp.lines as l on l.order_id = o.order_id "
        "where o.order_date >= %(start)s and o.order_date < %(end)s group by 1, 2\n"
    )
    rule = 'reconcile: {system: erp, sql: captured.sql, by: [currency], compare: {rows: "0", amount: "0.00"}}'
    manifest = root / "manifest.yaml"
    manifest.write_text(f"{manifest.read_text()}  checks: [{{name: captured, {rule}}}]\n")

    run = kpi.run()

    assert "gdp.sales, partition 2024-01 failed its audit: captured: " in run.error
    assert "EUR: rows 3 here, 4 in the capture; EUR: amount 11.11 here, 8.11 in the capture" in run.error
    assert kpi.waiting() == []
    kpi.correct()
    right = kpi.run()
    assert right.success, right.error


def test_the_commands_tell_what_waits_and_publish_it(kpi: RefusedKpi, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person types."""
    kpi.run()

    def typed(*arguments: str) -> str:
        with kpi.lake.environment(DAGSTER_HOME=str(kpi.lake.home)):
            done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == 0, f"{done.output}{done.exception!r}"
        return done.stdout

    assert "kpi.revenue 2024-01: waits since " in typed("acceptance", "list")
    shown = typed("acceptance", "show", "revenue", MONTH)
    assert [line.split() for line in shown.splitlines() if " amount " in line and "EUR" in line] == [
        ["2024-01-01", "/", "EUR", "amount", "11.11", "8.11"]
    ]
    assert "1 of silver.lines: amount is not >= 0" in shown
    assert "2 of 2 rows that are written and not published" in shown
    told = json.loads(typed("acceptance", "show", "revenue", MONTH, "--json"))
    assert told["first_rows"][0]["amount"] == "11.11"
    arguments = ("accept", "revenue", MONTH, "--by", "ana", "--reason", "known", "--version", told["version"])
    assert f"would accept version {told['version']}" in typed(*arguments, "--dry-run")
    assert "published kpi.revenue 2024-01 as epoch " in typed(*arguments)
    assert typed("acceptance", "list") == "nothing waits\n"
