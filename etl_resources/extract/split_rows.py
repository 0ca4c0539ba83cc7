"""What Arrow doesn't tell when it splits text into rows: rows that an open quote swallows, and which rows are none."""

import io
import re
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.csv import InvalidRow

BLOCK_BYTES = 8 * 1024**2
"""Text is split block by block; a row can't be longer."""
_TOLD = (
    (r"straddl.* block boundaries", f"a row has more than {BLOCK_BYTES // 1024**2} MB, or a quote is never closed"),
    (r"invalid UTF8|codec can't decode", "its text isn't UTF-8"),
    (r"Expected \d+ columns, got \d+", "a row has too many or too few values, and its text isn't UTF-8"),
)
"""Arrow's words → ours, which quote no row."""


class EndMark(io.RawIOBase):
    """CSV text, followed by one row of our own.

    Arrow takes what follows an opened quote for its value, also where no quote closes it: rows to the end of the file
    would be swallowed without a word. Then this row is swallowed too; whoever finds it knows that the text was whole.
    """

    def __init__(self, stream: Any, quote: str) -> None:
        super().__init__()
        self._stream, self._has_text = stream, False
        self._value = f"\x1e{uuid4().hex}"
        self._row = f"{quote}{self._value}{quote}"
        self._rest = f"\n{self._row}\n".encode()
        self.found = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """As the stream; the row after its last byte, if it had any."""
        block: bytes = self._stream.read(size) or b""
        self._has_text = self._has_text or bool(block.strip())
        if not block and self._has_text:
            block, self._rest = self._rest, b""
        return block

    def is_in(self, wrong: str) -> bool:
        """Whether a row of a wrong width is the mark: in files of several columns."""
        self.found = self.found or wrong == self._row
        return wrong == self._row

    def taken_from(self, batch: "pa.RecordBatch") -> "pa.RecordBatch":
        """A batch without the mark, which is the last good row of a file of one column."""
        if batch.num_rows == 0 or all(column[-1].as_py() != self._value for column in batch.columns):
            return batch
        self.found = True
        return batch.slice(0, batch.num_rows - 1)


class WrongRows:
    """Rows with too many or too few values. Arrow hands them over from its own threads."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()

    def keep(self, row: "InvalidRow") -> str:
        """Arrow's invalid_row_handler."""
        self._texts.append(row.text)
        return "skip"

    def taken(self) -> Iterator[str]:
        """Each once, whatever is kept meanwhile."""
        while self._texts:
            yield self._texts.popleft()


def told(error: Exception, *, quoting: bool = True) -> str:
    """What is wrong with a file, on one line. quoting: words of Arrow that may quote a row are told too."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    unknown = first if quoting else f"{type(error).__name__}, whose text isn't shown: it may quote a sensitive value"
    return next((text for pattern, text in _TOLD if re.search(pattern, first)), unknown)
