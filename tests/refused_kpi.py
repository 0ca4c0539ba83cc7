"""A lake with a KPI that its reconciliation refuses: a rejected line is in the ERP's totals, and not in the KPI."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from etl_assets.kpi_acceptance import Accepted, accept, waiting
from etl_resources.ledger.held import Held
from tests.invariants import prove_evidence, prove_nothing_left, prove_serving, prove_tables
from tests.lake import Lake, execute, new_lake
from tests.property.tiny_sales import MONTHS, REVENUE, SERVED, Erp, State, write_project

MONTH = MONTHS[0]
GOOD = State({1: (date(2024, 1, 5), "EUR"), 2: (date(2024, 1, 6), "USD")},
             {(1, 1): Decimal("10.10"), (1, 2): Decimal("0.01"), (2, 1): Decimal("5.55")})  # fmt: skip


@dataclass
class RefusedKpi:
    """The lake, its ERP, and what people do."""

    lake: Lake
    erp: Erp
    state: State = GOOD

    def sell(self, amount: str, order: int = 1, line: int = 3) -> None:
        """One more line in the ERP; a negative one is rejected by silver."""
        self.state = replace(self.state, lines={**self.state.lines, (order, line): Decimal(amount)})
        self.erp.show(self.state)

    def correct(self) -> None:
        """The ERP is as it was when all was right."""
        self.state = GOOD
        self.erp.show(GOOD)

    def run(self, *, last: str | None = None, **changed: str) -> Any:
        return self.lake.materialize(MONTH, last, **changed)

    def waiting(self) -> list[Held]:
        return waiting(self.lake.runtime)

    def accept(self, by: str = "ana", reason: str = "a return, booked later", *, dry_run: bool = False) -> Accepted:
        """As the command does it, in this process."""
        with self.lake.environment():
            return accept(self.lake.runtime, "revenue", MONTH, by, reason, None if dry_run else run_asset)

    def publishes(self, asset: str = REVENUE) -> list[tuple[Any, ...]]:
        """(rows, epoch) of each publish of the month."""
        return self.lake.platform(
            "select rows, epoch from etl.publishes where asset = %s and partition = %s order by epoch", asset, MONTH
        )

    def prove_right(self) -> None:
        """Nothing is torn, lost or left over, whatever happened."""
        prove_tables(self.lake)
        prove_serving(self.lake)
        prove_evidence(self.lake)
        prove_nothing_left(self.lake)

    def served(self) -> list[tuple[Any, ...]]:
        if not self.publishes(SERVED):
            return []
        return self.lake.platform("select currency, lines, amount from analytics.revenue order by 1")


def run_asset(asset: str, first: str, last: str) -> tuple[str, list[str]]:
    """The KPI and its target."""
    run = execute(first, last, [asset.replace(".", "/"), SERVED.replace(".", "/")])
    return run.run_id, run.errors


@contextmanager
def refused_kpi(folder: Path) -> Iterator[RefusedKpi]:
    """What is right is published; then a line comes that is rejected, and a good one: the KPI is refused."""
    project, home = folder / "project", folder / "home"
    home.mkdir()
    write_project(project)
    with new_lake(home, scale=None, project=project) as lake:
        erp = Erp(lake.erp_dsn)
        kpi = RefusedKpi(lake, erp)
        try:
            erp.show(GOOD)
            first = kpi.run()
            assert first.success, first.error
            kpi.sell("-3.00")
            kpi.sell("1.00", line=4)
            yield kpi
        finally:
            erp.close()
