"""What all unit tests share."""

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
