"""A lake with one published month, which the tests of a module share. Ask for it with pytest_plugins.

pytest_plugins = ["tests.lake", "tests.one_month"]
"""

import pytest

from tests.fault.sources import raise_prices
from tests.lake import Lake

MONTH = "2024-03"


@pytest.fixture(scope="module")
def published(module_lake: Lake) -> Lake:
    """Everything of the month is published. Tests change the source and publish again."""
    run = module_lake.materialize(MONTH)
    assert run.success, run.error
    return module_lake


@pytest.fixture
def changed(published: Lake) -> Lake:
    """The same lake, with something to do in every layer but silver orders."""
    raise_prices(published, MONTH)
    return published
