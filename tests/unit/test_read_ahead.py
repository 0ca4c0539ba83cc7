"""Blocks that are read ahead: bounded, never stuck, and their reader comes to an end when nobody asks any more."""

import io
import threading
from collections.abc import Iterator

import pytest

from etl_resources.extract import read_ahead
from etl_resources.extract.read_ahead import ReadAhead

BLOCKS = 20


class Numbered(io.RawIOBase):
    """Blocks of one byte that count how many were read."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0
        self.changed = threading.Condition()

    def read(self, size: int = -1) -> bytes:
        with self.changed:
            if self.given == BLOCKS:
                return b""
            self.given += 1
            self.changed.notify_all()
            return bytes([self.given])

    def await_given(self, blocks: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.given >= blocks, timeout=30), self.given


def items_of(ahead: ReadAhead, every: int = 1) -> Iterator[bytes]:
    """As Arrow's reader: a thread reads blocks into an unbounded queue, every n-th makes an item."""
    queue: list[bytes] = []
    changed = threading.Condition()

    def fill() -> None:
        while True:
            block = ahead.read(1)
            with changed:
                if not block or block[0] % every == 0:
                    queue.append(block)
                    changed.notify_all()
            if not block:
                return

    reader = threading.Thread(target=fill)
    reader.start()
    while True:
        with changed:
            assert changed.wait_for(lambda: queue, timeout=30)
            block = queue.pop(0)
        if not block:
            reader.join(30)
            return
        yield block


def test_a_slow_consumer_finds_few_blocks_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by them, not by the file: the reader would go to the end while a batch is written."""
    monkeypatch.setattr(read_ahead, "PATIENCE_S", 60)  # a busy machine is no reason to read more
    blocks = Numbered()
    ahead = ReadAhead(blocks, blocks_max=3)
    items = items_of(ahead)
    for taken in range(1, BLOCKS + 1):
        assert ahead.next_of(items) == bytes([taken])
        blocks.await_given(min(taken + 3, BLOCKS))
        assert blocks.given <= taken + 3
    assert ahead.next_of(items) is None


def test_blocks_that_make_no_item_stop_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may begin with many lines that are no rows."""
    monkeypatch.setattr(read_ahead, "PATIENCE_S", 0.01)
    ahead = ReadAhead(Numbered(), blocks_max=3)
    items = items_of(ahead, every=5)
    assert [ahead.next_of(items) for _ in range(BLOCKS // 5 + 1)] == [b"\5", b"\n", b"\17", b"\24", None]


def test_a_reader_of_what_nobody_wants_ends() -> None:
    """The engine may stop in the middle; a thread that waits for ever would keep the process."""
    blocks = Numbered()
    ahead = ReadAhead(blocks, blocks_max=3)
    threads = threading.active_count()
    items = items_of(ahead)
    assert ahead.next_of(items) == b"\1"
    ahead.give_up()
    assert list(items)[-1] in (b"\2", b"\3", b"\4")
    assert threading.active_count() == threads
