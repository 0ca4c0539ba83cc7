"""A lake whose finance team closes months of a KPI, and a webhook that hears of what changes since."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from etl_assets.automation.restatements import send_restatements
from etl_assets.kpi_acceptance import Accepted, accept, waiting
from etl_assets.period_close import close, reopen
from etl_resources.closing import Closer, Done
from etl_resources.engines.embedded import connect
from etl_resources.ledger.closings import closings_of
from etl_resources.ledger.held import Held
from etl_resources.ledger.ledger import Ledger
from tests.invariants import prove_evidence, prove_nothing_left, prove_serving, prove_tables
from tests.lake import Lake, new_lake
from tests.property.tiny_sales import MONTHS, REVENUE, SERVED, Erp, State, write_project
from tests.refused_kpi import GOOD, run_asset

JAN, FEB = MONTHS[:2]
CLOSED_JAN = [("EUR", 2, Decimal("10.11")), ("USD", 1, Decimal("5.55"))]


@dataclass
class Webhook:
    """What was posted to an address; `answer` is its status from now on."""

    address: str = ""
    answer: int = 200
    posted: list[dict[str, Any]] = field(default_factory=list)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Details of the posts of one kind."""
        return [p["details"] for p in self.posted if p["kind"] == kind]


@contextmanager
def webhook() -> Iterator[Webhook]:
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if hook.answer < 400:
                hook.posted.append(json.loads(body))
            self.send_response(hook.answer)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hook.address = f"http://127.0.0.1:{server.server_port}/token"
    try:
        yield hook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class ClosedBooks:
    """The lake, its ERP, and what people do."""

    lake: Lake
    source: Erp
    hook: Webhook
    state: State = GOOD

    def sell(self, amount: str, line: int, order: int = 1) -> None:
        """A line of the ERP, new or with another amount; order 1 is of January, in euros."""
        self.show(State(self.state.orders, {**self.state.lines, (order, line): Decimal(amount)}))

    def show(self, state: State) -> None:
        self.state = state
        self.source.show(state)

    def run(self, first: str = JAN, last: str | None = None, **options: Any) -> Any:
        return self.lake.materialize(first, last, **options)

    def close(self, month: str = JAN, by: str = "ana", note: str = "June close") -> Done:
        with self.lake.environment():
            (done,) = close(self.lake.runtime, [REVENUE], month, by, note)
        return done

    def close_unproved(self) -> None:
        """January as it is published, whatever its inputs are by now: as between somebody's look and the closing."""
        runtime = self.lake.runtime
        with Ledger.open(runtime.settings) as ledger, connect(runtime.settings) as engine:
            closer = Closer(
                runtime.store, ledger, engine, runtime.addresses[REVENUE], runtime.letters_addresses[REVENUE]
            )
            closer.close(JAN, "ana", "", "close-test", lambda _: None)

    def closed(self, month: str = JAN) -> bool:
        with Ledger.open(self.lake.runtime.settings) as ledger:
            return month in closings_of(ledger.connection, REVENUE)

    def reopen(self, month: str = JAN) -> Done:
        with self.lake.environment():
            return reopen(self.lake.runtime, REVENUE, month, "bo", "a wrong entry")

    def waiting(self) -> list[Held]:
        return waiting(self.lake.runtime)

    def accept(self, by: str = "carla", reason: str = "approved by the CFO", month: str = JAN) -> Accepted:
        """As the command does it, in this process."""
        with self.lake.environment():
            return accept(self.lake.runtime, "revenue", month, by, reason, run_asset)

    def send(self) -> int:
        """As the sensor's tick, and `accept`, do it."""
        with Ledger.open(self.lake.runtime.settings) as ledger:
            return send_restatements(self.lake.runtime.settings, ledger, lambda _: None)

    def served(self, month: str = JAN) -> list[tuple[Any, ...]]:
        query = "select currency, lines, amount from analytics.revenue where to_char(month, 'YYYY-MM') = %s order by 1"
        return self.lake.platform(query, month)

    def publishes(self, asset: str = REVENUE, month: str = JAN) -> list[tuple[Any, ...]]:
        """(epoch, version) of each publish of a month."""
        query = "select epoch, version from etl.publishes where asset = %s and partition = %s order by epoch"
        return self.lake.platform(query, asset, month)

    def tags(self) -> set[str]:
        table = self.lake.runtime.store.catalog.load_table(self.lake.runtime.addresses[REVENUE].identifier)
        return {name for name, ref in table.refs().items() if ref.snapshot_ref_type == "tag"}

    def why(self, month: str = JAN, asset: str = REVENUE) -> Any:
        from etl_assets.backfill.why import why

        return why(self.lake.runtime, asset, month)

    def prove_right(self) -> None:
        """Nothing is torn, lost or left over, whatever happened."""
        prove_tables(self.lake)
        prove_serving(self.lake)
        prove_evidence(self.lake)
        prove_nothing_left(self.lake)


@contextmanager
def closed_books(folder: Path, declared: str = "{late_data: approval}") -> Iterator[ClosedBooks]:
    """January and February are published, nothing is closed. declared: `period_close` of the KPI."""
    project, home = folder / "project", folder / "home"
    home.mkdir()
    write_project(project)
    manifest = project / "datasets" / "revenue" / "manifest.yaml"
    manifest.write_text(
        manifest.read_text().replace("  sql: revenue.sql\n", f"  sql: revenue.sql\n  period_close: {declared}\n")
    )
    with new_lake(home, scale=None, project=project) as lake, webhook() as hook:
        lake.env["ETL_ALERT_WEBHOOK"] = hook.address
        source = Erp(lake.erp_dsn)
        books = ClosedBooks(lake, source, hook)
        try:
            source.show(GOOD)
            first = books.run(last=FEB)
            assert first.success, first.error
            yield books
        finally:
            source.close()


__all__ = ["CLOSED_JAN", "FEB", "JAN", "REVENUE", "SERVED", "ClosedBooks", "closed_books"]
