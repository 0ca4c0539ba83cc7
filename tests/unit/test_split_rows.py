"""Rows that Arrow hands over from its own threads."""

import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from etl_resources.extract.split_rows import WrongRows, told

ROWS = 4_000


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-7)
    yield
    sys.setswitchinterval(before)


def test_no_wrong_row_is_lost_while_others_are_taken(hasty: None) -> None:
    """It would be in no count: neither among the rows that were read nor among the rejected ones."""
    wrong, taken = WrongRows(), list[str]()
    rows: list[Any] = [SimpleNamespace(text=str(i)) for i in range(ROWS)]
    keeper = threading.Thread(target=lambda: [wrong.keep(row) for row in rows])
    keeper.start()
    while keeper.is_alive():
        taken += wrong.taken()
    taken += wrong.taken()
    assert taken == [row.text for row in rows]


def test_an_error_about_a_row_doesnt_quote_it() -> None:
    """Logs are read by more people than the data."""
    message = told(ValueError("CSV parse error: Expected 2 columns, got 3: x,\ufffd,secret"))
    assert message == "a row has too many or too few values, and its text isn't UTF-8"
