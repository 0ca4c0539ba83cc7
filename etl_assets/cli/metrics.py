"""`data-pipeline metrics`: what Prometheus scrapes, read from the ledger."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from etl_resources.observe.endpoint import LOOPBACK, PORT


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(metrics)


def metrics(
    once: Annotated[bool, typer.Option("--once", help="Print them and end: for a textfile collector.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of GET /metrics.")] = PORT,
    address: Annotated[str, typer.Option(help="Address to listen on; others than loopback need a token.")] = LOOPBACK,
    token_file: Annotated[Path | None, typer.Option(help="File with the bearer token that scrapers must send.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file of the certificate, with its chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Off loopback without TLS: something else encrypts.")] = False,
) -> None:
    """Serve metrics for Prometheus: attempts (crashed ones, too), rows, bytes, pruning, dead letters, freshness.

    They are read from the ledger when they are asked for, so they tell of runs whose process is gone. Without a ledger
    it stays, and tells etl_up 0. Runs until it is stopped.
    """
    from etl_assets.metrics import LedgerCollector
    from etl_assets.project import load_project
    from etl_resources.observe.endpoint import Endpoint, MetricsServer
    from etl_resources.settings import load_settings

    collector = LedgerCollector(load_project(), load_settings, _tell)
    if once:
        from prometheus_client import generate_latest

        sys.stdout.write(generate_latest(collector.registry()).decode())
        return
    endpoint = Endpoint(address, port, token_file, tls_cert, tls_key, plain)
    with MetricsServer(endpoint, collector.registry(), _tell) as server:
        _tell(f"metrics: {endpoint.url}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            _tell("stopped")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
