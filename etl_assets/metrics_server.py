"""The metrics endpoint as a companion of the embedded stack: `up --metrics` starts it, `down` ends it."""

import argparse
import sys
from collections.abc import Sequence

from etl_assets.metrics import LedgerCollector
from etl_assets.project import load_project
from etl_resources.observe.endpoint import Endpoint, MetricsServer
from etl_resources.settings import load_settings
from etl_resources.stack.companion import Companion

ADDRESS = "METRICS_URL"


def metrics_companion() -> Companion:
    """Its declaration; METRICS_URL is where it is found."""
    return Companion(name="metrics", module="etl_assets.metrics_server", health_path="/healthz", secret=ADDRESS)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve on loopback until the process is told to end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args(argv)
    collector = LedgerCollector(load_project(), load_settings, _log)
    with MetricsServer(Endpoint(port=arguments.port), collector.registry(), _log) as server:
        server.serve_forever()


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201  (the process's log)


if __name__ == "__main__":
    main()
