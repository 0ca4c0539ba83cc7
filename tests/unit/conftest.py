"""What all unit tests share."""

import os
from collections.abc import Iterator
from functools import lru_cache

import pytest

from etl_resources import manifest_file


@pytest.fixture(autouse=True, scope="session")
def each_yaml_text_is_read_once() -> Iterator[None]:
    """Hundreds of tests load one project with one line changed: nobody changes a document that was read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_file, "compose", lru_cache(maxsize=None)(manifest_file.compose))
        yield


@pytest.fixture(autouse=True, scope="module")
def of_no_session() -> Iterator[None]:
    """Servers and the project of tests that ran before in the same process are none of theirs."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [n for n in os.environ if n.startswith("ETL_")]:
            environment.delenv(name)
        yield
