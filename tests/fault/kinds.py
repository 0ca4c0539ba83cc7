"""What a random schedule may play on: a lake with its source, how that changes, and what must hold afterwards."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fault import deliveries, sources
from tests.fault.conftest import SMALL
from tests.fault.scenarios import SCENARIOS, Reach
from tests.invariants import prove_whole
from tests.lake import Lake, new_lake

Change = Callable[[Lake, Random], None]


@dataclass(frozen=True)
class Kind:
    """A kind of source."""

    make: Callable[[Path], AbstractContextManager[Lake]]
    scenarios: Mapping[str, Reach]
    changes: Mapping[str, Change]
    touch: Change
    """A change that every table follows."""
    prove: Callable[[Lake], None]


def _raise_prices(lake: Lake, _: Random) -> None:
    for month in sources.MONTHS:
        sources.raise_prices(lake, month)


KINDS: Mapping[str, Kind] = {
    "erp": Kind(lambda folder: new_lake(folder, SMALL), SCENARIOS, sources.CHANGES, _raise_prices, prove_whole),
    "files": Kind(
        deliveries.files_lake,
        deliveries.scenarios("customers", served=True, reject=deliveries.reject_line),
        deliveries.FILE_CHANGES,
        deliveries.change_file,
        deliveries.prove_files,
    ),
    "pages": Kind(
        deliveries.pages_lake,
        deliveries.scenarios("currency_rates", served=False, reject=deliveries.reject_rate),
        deliveries.PAGE_CHANGES,
        deliveries.change_rate,
        deliveries.prove_pages,
    ),
}
