"""Write the rows of a delivery as bronze: typed by the contract, in one streamed pass; what doesn't fit is kept."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl_resources.contract import Contract
from etl_resources.conventions import META_RUN_ID, PARQUET
from etl_resources.engines.transform import JUDGED, engine_name
from etl_resources.extract.batch_stream import LACKING, UNREADABLE, DeliveredRows
from etl_resources.extract.covered_rows import covered_rows
from etl_resources.identifiers import literal, quote
from etl_resources.quality.rules import REASON, reason_when, rejection_reasons, typed_columns
from etl_resources.sensitive import HashKey, without_values

if TYPE_CHECKING:
    import duckdb

LookAt = Callable[["duckdb.DuckDBPyConnection", Sequence[str]], None]
FILE_BYTES = 1_000_000_000
"""A longer file is continued in the next one."""
NO_ROW = "is not a row that can be read"
LACKS = " is missing in its file"


@dataclass(frozen=True)
class WrittenRows:
    """What became of the rows that were delivered."""

    paths: tuple[str, ...]
    read: int
    """As counted outside of the engine."""
    written: int
    rejected: int
    reasons: Mapping[str, int]
    seconds: float
    engine: str
    """By which they were read, with its version."""


def write_delivered(
    engine: "duckdb.DuckDBPyConnection",
    asset: str,
    contract: Contract,
    rows: DeliveredRows,
    folder: str,
    *,
    run_id: str,
    field_ids: str,
    keep_rejected: Callable[["duckdb.DuckDBPyConnection"], Mapping[str, int]],
    look: LookAt = lambda *_: None,
    key: HashKey | None = None,
    name: str = "part",
) -> WrittenRows:
    """Write the good rows below `folder` and hand the rejected ones, in table JUDGED, to keep_rejected.

    look: is shown both first, JUDGED and the paths of the good ones, and may raise what ends the writing. key: of
    hashed columns. name: begins the files' names.

    Rows are read once; a second time, only for the rejected ones, if there are any. Raises what ended the reading.
    """
    import duckdb

    started = time.monotonic()
    columns = ", ".join(map(quote, contract.names))
    if key is not None:
        key.use(engine)
    try:
        judged = judged_delivery(engine, asset, contract, rows.scan())
        written, paths = _copied(
            engine.execute(
                f"copy (select {columns}, {literal(run_id)} as {META_RUN_ID} from ({judged}) where len(_reasons) = 0) "
                f"to {literal(folder)} ({PARQUET}, field_ids {field_ids}, "
                f"file_size_bytes {FILE_BYTES}, overwrite_or_ignore, "
                f"filename_pattern {literal(f'{name}-{{i}}')}, return_files)"
            ).fetchone()
        )
        read, rejected, reasons = rows.read, 0, {}
        if read != written:
            rows.scan()
            engine.execute(f"create or replace temp table {JUDGED} as select * from ({judged}) where len(_reasons) > 0")
            found = engine.execute(f"select count(*) from {JUDGED}").fetchone()
            rejected = int(found[0]) if found else 0
            look(engine, paths)
            reasons = dict(keep_rejected(engine))
    except duckdb.Error as e:
        if contract.is_sensitive:
            raise without_values(asset, rows.failure or e) from None
        raise rows.error_of(e, asset) from e
    finally:
        engine.execute(f"drop table if exists {JUDGED}")
    seconds, by = time.monotonic() - started, engine_name(spark=False)
    return WrittenRows(paths, read, written, rejected, reasons, seconds, by)


def judged_delivery(engine: "duckdb.DuckDBPyConnection", asset: str, contract: Contract, rows: str) -> str:
    """Query: every row typed, with the reasons to reject it; what is no row has that reason alone."""
    described = {name: kind for name, kind, *_ in engine.execute(f"describe select * from {rows}").fetchall()}
    rows, produced = covered_rows(asset, contract, rows, described)
    typed = ", ".join(typed_columns(asset, contract, produced))
    no_row = f"typed._payload.{UNREADABLE} is not null"
    unreadable = f"case when {no_row} then [{reason_when(no_row, 'readable', None, NO_ROW)}]"
    if LACKING in produced:
        lacks = f"typed._payload.{LACKING}"
        reason = f"{{'rule': 'schema', 'column': {lacks}, 'reason': {lacks} || {literal(LACKS)}}}"
        unreadable += f" when {lacks} is not null then [{reason}::{REASON}]"
    return (
        f"with typed as (select {typed}, _raw as _payload from {rows} as _raw) "
        f"select typed.*, {unreadable} else {rejection_reasons(contract, produced)} end as _reasons from typed"
    )


def _copied(answer: tuple[int, list[str]] | None) -> tuple[int, tuple[str, ...]]:
    assert answer is not None  # noqa: S101  (COPY with return_files always returns a row)
    return int(answer[0]), tuple(sorted(answer[1] or ()))
