"""A lake that reads exchange rates from a rates server of its own, whose additions are in {folder}/rates.csv."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etl_assets.demo.rates_server import RatesServer
from tests.lake import Lake, new_lake
from tests.projects import RATES


@contextmanager
def rates_lake(folder: Path) -> Iterator[Lake]:
    """Nothing is published yet."""
    server = RatesServer(0, folder / "rates.csv")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with new_lake(folder, scale=None, project=RATES) as lake:
            lake.env["RATES_URL"] = f"http://127.0.0.1:{server.server_port}"
            yield lake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
