"""A maintenance in its own process, killed: `python -m tests.integration.maintenance_child DATASET POINT`."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from etl_resources.ledger.ledger import Ledger
from etl_resources.tables import compaction, maintenance
from tests.conftest import BUCKET
from tests.integration.store_table import store_table

POINTS: dict[str, tuple[Any, str, bool]] = {
    "first file rewritten": (compaction, "_rewrite", True),
    "before the compaction's commit": (compaction, "_swap", False),
    "compacted, ledger not told": (compaction, "_swap", True),
    "before the expiry": (maintenance, "expire", False),
    "expired, nothing deleted": (maintenance, "expire", True),
    "data deleted, metadata not": (maintenance, "delete_orphans", True),
}
"""Point → (module, function, whether the process dies after it)."""


def dying(function: Callable[..., Any], after: bool) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **options: Any) -> Any:
        if after:
            function(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    return wrapped


def main(dataset: str, point: str) -> None:
    module, name, after = POINTS[point]
    setattr(module, name, dying(getattr(module, name), after))
    with store_table(BUCKET, dataset) as table:
        assert isinstance(table.ledger, Ledger)
        table.maintain()


if __name__ == "__main__":
    main(*sys.argv[1:])
