"""Events of an asset, as they are in the stack's Postgres."""

from typing import Any
from uuid import uuid4

import pytest

from etl_resources.settings import load_settings
from tests.databases import query


@pytest.fixture
def asset() -> str:
    """Name of an asset of which nothing was told."""
    return f"asset_{uuid4().hex[:12]}"


def stored(sql: str, asset: str) -> list[tuple[Any, ...]]:
    """Rows of a query whose one parameter is the asset's key."""
    return query(load_settings().require_postgres(), sql, [f'["{asset}"]'])
