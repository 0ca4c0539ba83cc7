"""why, plan and backfill on a small lake, by the commands that a person types (M6, M11, A6)."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from etl_assets.cli.main import app
from tests.integration.windows_project import write_windows
from tests.lake import Lake, new_lake
from tests.property.tiny_sales import MONTHS, Erp, State

JANUARY, FEBRUARY, MARCH = MONTHS


@dataclass
class Shop:
    lake: Lake
    erp: Erp
    state: State

    def sell(self, order: int, amount: str) -> None:
        lines = {**self.state.lines, (order, 1): Decimal(amount)}
        self.state = replace(self.state, lines=lines)
        self.erp.show(self.state)

    def call(self, *arguments: str) -> Result:
        with self.lake.environment():
            return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def shop(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with new_lake(folder / "home", scale=None, project=write_windows(folder / "project")) as lake:
        erp = Erp(lake.erp_dsn)
        orders = {i: (date.fromisoformat(f"{m}-15"), "EUR") for i, m in enumerate(MONTHS)}
        state = State(orders, {(i, 1): Decimal("10.00") for i in orders})
        erp.show(state)
        yield Shop(lake, erp, state)
        erp.close()


def test_explore(shop: Shop) -> None:
    def show(*a: str) -> Any:
        r = shop.call(*a)
        print("\n$", *a, "->", r.exit_code, repr(r.exception) if r.exception else "")
        if r.exception and not isinstance(r.exception, SystemExit):
            import traceback
            traceback.print_exception(r.exception)
        print(r.output)
    show("backfill", "all", "--yes")
    shop.sell(0, "12.34")
    show("plan", "all", "--ledger-only")
    show("plan", "all")
    show("backfill", "all", "--yes")
    show("plan", "all")
