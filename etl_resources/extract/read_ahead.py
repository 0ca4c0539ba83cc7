"""Blocks that are read before they are asked for: a few, however slow their consumer is.

Arrow's CSV reader has no such bound: it holds up to 32 blocks, and as many parsed ones as there are cores.
"""

import io
import threading
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 0.5
"""Wait for an item after which one more block is given out: some blocks make no item (rows that are all wrong)."""


class ReadAhead(io.RawIOBase):
    """A stream of blocks that another thread reads for an iterator of items, one for each block."""

    def __init__(self, stream: io.RawIOBase, blocks_max: int) -> None:
        """blocks_max: blocks that were read and whose items weren't asked for; an iterator may need two to begin."""
        super().__init__()
        self._stream, self._blocks_max = stream, blocks_max
        self._changed = threading.Condition()
        self._ahead = 0
        self._wanted = True  # making the iterator waits for the first block
        self._given_up = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """A block of the stream; none after `give_up`."""
        with self._changed:
            while self._ahead >= self._blocks_max and not self._given_up:
                if not self._changed.wait(PATIENCE_S) and self._wanted:
                    break
            self._ahead += 1
            if self._given_up:
                return b""
        return self._stream.read(size) or b""

    def next_of(self, items: Iterator[T]) -> T | None:
        """The iterator's next item; None at its end."""
        with self._changed:
            self._wanted = True
        item = next(items, None)
        with self._changed:
            self._wanted = False
            self._ahead = max(0, self._ahead - 1)
            self._changed.notify_all()
        return item

    def give_up(self) -> None:
        """Let the other thread come to its end: nobody asks for items any more."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()
