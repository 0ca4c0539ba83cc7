"""Rows of API pages that didn't fit come back once the contract does, and are then what the API said, to the digit."""

import json
import shutil
from decimal import Decimal
from pathlib import Path

from typer.testing import CliRunner

from etl_assets.account import account
from etl_assets.cli.main import app
from etl_assets.graph.runtime import Runtime
from etl_assets.project import load_project
from etl_assets.verify import verify
from etl_resources.ledger.ledger import Ledger
from tests.integration.api_server import page, serving
from tests.invariants import prove_letters
from tests.lake import new_lake
from tests.projects import RATES

SENT = {"2024-01": "1.0953", "2024-02": "1234567890123.25", "2024-03": '"n/a"'}
LAST_DAYS = {"2024-01": "31", "2024-02": "29", "2024-03": "31"}


def test_rows_of_pages_come_back_when_their_column_is_widened(stack: object, tmp_path: Path) -> None:
    """A rate of thirteen digits before the point: rejected, explained, and there as sent after the fix. No number at
    all stays rejected."""
    project = shutil.copytree(RATES, tmp_path / "project")
    with serving() as api, new_lake(tmp_path / "lake", scale=None, project=project) as lake:
        lake.env["RATES_URL"] = api.url
        for month, sent in SENT.items():
            target = f"/v1/{month}-01..{month}-{LAST_DAYS[month]}?base=EUR"
            api.answers[target] = page(f'{{"rates": {{"{month}-04": {{"USD": {sent}}}}}}}')

        def published() -> dict[str, Decimal]:
            return dict(lake.rows("silver/currency_rates", "strftime(rate_date, '%Y-%m'), rate"))

        run = lake.materialize("2024-01")
        assert run.success, run.error
        assert published() == {"2024-01": Decimal("1.095300")}

        manifest = project / "datasets/currency_rates/manifest.yaml"
        manifest.write_text(manifest.read_text().replace("decimal(18,6)", "decimal(20,6)"))
        lake.__dict__.pop("runtime", None)
        with lake.environment():
            done = CliRunner().invoke(app, ["dead-letters", "replay", "currency_rates", "--json"])
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)

        assert (found["restored"], found["errors"]) == (1, [])
        assert published() == {"2024-01": Decimal("1.095300"), "2024-02": Decimal("1234567890123.250000")}
        assert lake.dead_letters("value", "asset = 'bronze.currency_rates'") == [("n/a",)]
        prove_letters(lake)
        runtime = Runtime(load_project(project), lake.settings)
        assert verify(runtime, (), (), lambda _: None).equal
        with Ledger.open(lake.settings) as ledger:
            accounting = account(runtime.project, ledger, "currency_rates", None)
        assert accounting.balances, accounting.as_json()
        assert accounting.total is not None
        assert (accounting.total.captured, accounting.total.losses["rejected"]) == (3, 1)
