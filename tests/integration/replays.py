"""A lake with rows that each layer rejects, by its own rules and by a lookup; and the verbs of people, as CLI calls."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from etl_assets.account import account
from etl_assets.cli.main import app
from etl_assets.graph.runtime import Runtime
from etl_assets.project import load_project
from etl_assets.verify import verify
from etl_resources.ledger.ledger import Ledger
from tests.integration.lookups_project import write_lookups
from tests.invariants import prove_letters, prove_nothing_left, prove_serving, prove_tables
from tests.lake import Lake, new_lake
from tests.property.tiny_sales import MONTHS, Erp, State

JANUARY, FEBRUARY, MARCH = MONTHS
STATE = State(
    {
        1: (date(2024, 1, 6), "USD"), 2: (date(2024, 1, 10), "usd"), 3: (date(2024, 2, 20), "RUB"),
        4: (date(2024, 2, 21), "USD"), 5: (date(2024, 3, 5), "EU"), 6: (date(2024, 3, 6), "USD"),
    },
    {
        (1, 1): Decimal("10.00"), (2, 1): Decimal("20.00"), (3, 1): Decimal("30.00"), (3, 2): Decimal("0.01"),
        (4, 1): Decimal("5.00"), (5, 1): Decimal("7.00"), (6, 1): Decimal("8.00"), (6, 2): Decimal("-1.00"),
    },
)  # fmt: skip
RATES = [("USD", "2024-01-05", "1.25"), ("USD", "2024-02-15", "1.25"), ("USD", "2024-03-01", "1.25")]


@dataclass
class ReplayLake:
    """The lake, its project's folder, and its ERP."""

    lake: Lake
    project: Path
    erp: Erp

    def edit(self, file: str, before: str, after: str) -> None:
        """A person's fix of the project."""
        path = self.project / "datasets" / file
        text = path.read_text()
        assert before in text, file
        path.write_text(text.replace(before, after))
        self.lake.__dict__.pop("runtime", None)

    def add_rate(self, code: str, day: str, rate: str) -> None:
        self.lake.erp("insert into erp.rates values (%s, %s, %s, '')", code, day, rate)

    def run(self) -> Any:
        return self.lake.materialize(JANUARY, MARCH)

    def call(self, command: str, code: int = 0) -> str:
        """What `data-pipeline dead-letters …` prints."""
        with self.lake.environment():
            done = CliRunner().invoke(app, ["dead-letters", *shlex.split(command)])
        assert done.exit_code == code, f"{done.output}\n{done.exception!r}"
        return done.stdout

    def fails(self, command: str) -> str:
        """The error that ends `data-pipeline dead-letters …`."""
        with self.lake.environment():
            done = CliRunner().invoke(app, ["dead-letters", *shlex.split(command)])
        assert done.exception is not None
        return str(done.exception)

    def json(self, command: str, code: int = 0) -> Any:
        return json.loads(self.call(f"{command} --json", code))

    def epochs(self, asset: str) -> dict[str, int]:
        """Partition → epoch of what is published."""
        return dict(self.lake.platform("select partition, epoch from etl.current_versions where asset = %s", asset))

    def prove_right(self) -> None:
        """Stores, ledger and letters agree; every account of the KPI balances."""
        prove_tables(self.lake)
        prove_serving(self.lake)
        prove_letters(self.lake)
        prove_nothing_left(self.lake)
        runtime = Runtime(load_project(self.project), self.lake.settings)
        assert verify(runtime, (), (), lambda _: None).equal
        with Ledger.open(self.lake.settings) as ledger:
            for month in self.epochs("kpi.revenue"):
                assert account(runtime.project, ledger, "kpi.revenue", month).balances


@contextmanager
def replay_lake(folder: Path, state: State = STATE) -> Iterator[ReplayLake]:
    """Nothing is published yet."""
    project = write_lookups(folder / "project")
    with new_lake(folder / "home", scale=None, project=project) as lake:
        erp = Erp(lake.erp_dsn)
        lake.erp("create table erp.rates (code text, rate_date date, rate numeric(18,6), note text, "
                 "primary key (code, rate_date))")  # fmt: skip
        found = ReplayLake(lake, project, erp)
        for rate in RATES:
            found.add_rate(*rate)
        erp.show(state)
        yield found
        erp.close()
