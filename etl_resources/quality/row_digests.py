"""Sums of rows' digests, in whichever process the rows are: also in a Spark executor, which has no manifest."""

from binascii import unhexlify
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

MODULUS = 2**64
"""Of all sums of content_hash."""


def sum_of_digests(column: "pa.Array | pa.ChunkedArray") -> int:
    """What rows add to the content hash, modulo 2^64, of the md5s of their texts: 32 hex digits each."""
    import numpy as np
    import pyarrow as pa

    total = 0
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else (column,):
        digits = chunk.cast(pa.binary()).cast(pa.binary(32))
        letters = memoryview(digits.buffers()[1])[digits.offset * 32 :][: len(digits) * 32]
        total += int(np.frombuffer(unhexlify(letters), ">u8")[::2].sum(dtype=np.uint64))
    return total % MODULUS


def sum_of_column(column: "pa.Array") -> int:
    """Of unsigned numbers, modulo 2^64."""
    import numpy as np

    return int(column.to_numpy().sum(dtype=np.uint64))
