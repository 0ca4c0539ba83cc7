"""What the fault tests share."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lake import Lake

SMALL = 0.002
"""Some 40 orders a month."""


@pytest.fixture(scope="module")
def small_lake(stack: object, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Lake]":
    """An empty lake of few orders that the tests of a module share."""
    from tests.lake import new_lake

    with new_lake(tmp_path_factory.mktemp("lake"), SMALL) as made:
        yield made
