"""What a Spark task does with judged rows: good ones to a data file, rejected ones to a file beside, both counted.

Runs in the executors' Python. A task's files bear the number of its attempt: what a failed or slow attempt wrote is
never named by anyone, and is cleaned up with everything else that no snapshot references. Nothing is counted that
wasn't written by the attempt that counts.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

from etl_resources.conventions import bucket_folder
from etl_resources.errors import PermanentError
from etl_resources.failpoints import failpoint
from etl_resources.quality.row_digests import sum_of_digests

if TYPE_CHECKING:
    import pyarrow as pa

BUCKET = "_bucket"
"""Hidden column of rows whose files are split by bucket; a task is given them in its order."""
_EXACT = Context(prec=200)
ROW_GROUP_ROWS = 100_000
ROW_GROUP_BYTES = 64_000_000
"""A row group is written when it has this many rows, or bytes: what a task holds in memory."""


@dataclass(frozen=True)
class WriterPlan:
    """What every task is told. Columns in their order."""

    folder: str
    """s3://… of the attempt at the partition."""
    mark: str
    """In the names of the files of one try at the partition."""
    field_ids: Mapping[str, int]
    """Column → field id in the table."""
    sums: tuple[str, ...]
    """Columns whose sums over all rows are told."""
    store: Mapping[str, Any] = field(repr=False)
    """Arguments of pyarrow's S3FileSystem; none: folder is a local one."""
    bucket_field: str | None = None
    """Of the table's partition spec: names the folders of buckets. None: a task writes one file."""


@dataclass
class Written:
    """What one task, or all of them, made of the rows."""

    paths: list[str] = field(default_factory=list)
    rejected_paths: list[str] = field(default_factory=list)
    produced: int = 0
    written: int = 0
    rejected: int = 0
    deduplicated: int = 0
    """Rows of a key of which another was written."""
    digits: int = 0
    """Sum of the written rows' part of the content hash."""
    sums: dict[str, str] = field(default_factory=dict)
    """Column → sum of what isn't null, as text."""

    def as_json(self) -> str:
        """One row of a task's answer."""
        return json.dumps(self.__dict__)

    @classmethod
    def together(cls, answers: Iterable[str]) -> "Written":
        """All tasks' answers as one."""
        whole = cls()
        for answer in answers:
            one = cls(**json.loads(answer))
            for name in ("paths", "rejected_paths", "produced", "written", "rejected", "deduplicated", "digits"):
                setattr(whole, name, getattr(whole, name) + getattr(one, name))
            for name, total in one.sums.items():
                whole.sums[name] = _added(whole.sums.get(name, "0"), Decimal(total))
        return whole


def task_name() -> str:
    """Which task this is, for errors."""
    from pyspark import TaskContext

    context = TaskContext.get()
    return f" of task {context.partitionId()}" if context is not None else ""


def write_rows(plan: WriterPlan, batches: "Iterable[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
    """Body of mapInArrow: one answer (column `answer`) per task that saw rows."""
    import pyarrow as pa
    from pyspark import TaskContext

    context = TaskContext.get()
    task = f"{context.partitionId()}-{context.taskAttemptId()}" if context is not None else "0"
    found = Written()
    name = f"part-{plan.mark}-{task}.parquet"
    good = _File(plan, name, list(plan.field_ids)) if plan.bucket_field is None else _BucketFiles(plan, name)
    bad = _File(plan, f"rejected-{plan.mark}-{task}.parquet", None)
    for batch in batches:
        table = pa.Table.from_batches([batch])
        if len(table):
            _sort_out(table, plan, found, good, bad)
    found.paths, found.rejected_paths = good.close(), bad.close()
    failpoint("spark.files_written", plan.folder)
    if found.produced:
        yield pa.RecordBatch.from_pydict({"answer": [found.as_json()]})


def _sort_out(table: "pa.Table", plan: WriterPlan, found: Written, good: "_File | _BucketFiles", bad: "_File") -> None:
    import pyarrow.compute as pc

    is_good = pc.is_null(table["_reasons"])
    is_kept = pc.and_(is_good, pc.equal(table["_key_rank"], 1))
    kept = table if pc.all(is_kept).as_py() else table.filter(is_kept)
    rejected = table.filter(pc.invert(is_good))
    found.produced += len(table)
    found.rejected += len(rejected)
    found.written += len(kept)
    if len(kept):
        found.deduplicated += pc.sum(kept["_copies"]).as_py() - len(kept)
        found.digits += sum_of_digests(kept["_digest"])
        good.add(kept)
    if len(rejected):
        payloads = pc.list_element(rejected["_payload"], 0)
        bad.add(rejected.select([*plan.field_ids, "_reasons"]).append_column("_payload", payloads))
    for name in plan.sums:
        found.sums[name] = _added(found.sums.get(name, "0"), _exact_sum(table[name]))


def _added(total: str, more: Decimal) -> str:
    """Without the rounding to 28 digits that Decimal has by default."""
    return f"{_EXACT.add(Decimal(total), more):f}"


def _exact_sum(column: "pa.ChunkedArray") -> Decimal:
    """Of numbers, without an overflow."""
    import pyarrow as pa
    import pyarrow.compute as pc

    scale = column.type.scale if pa.types.is_decimal(column.type) else 0
    total = pc.sum(column.cast(pa.decimal256(76, scale))).as_py()
    return total if total is not None else Decimal(0)


class _File:
    """A Parquet file that begins with its first row. columns: those with a field id; None: all, without ids."""

    def __init__(self, plan: WriterPlan, name: str, columns: list[str] | None) -> None:
        self._plan, self._name, self._columns = plan, name, columns
        self._waiting: list[pa.Table] = []
        self._writer: Any = None
        self._stream: Any = None

    def add(self, table: "pa.Table") -> None:
        """Rows wait until they make a row group."""
        self._waiting.append(table if self._columns is None else table.select(self._columns))
        rows, size = sum(map(len, self._waiting)), sum(t.nbytes for t in self._waiting)
        if rows >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> list[str]:
        """The path of the finished file, if there is one."""
        self._flush()
        if self._writer is None:
            return []
        self._writer.close()
        self._stream.close()
        return [f"{self._plan.folder}/{self._name}"]

    def _flush(self) -> None:
        if not self._waiting:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        table, self._waiting = pa.concat_tables(self._waiting), []
        if self._columns is not None:
            ids = self._plan.field_ids
            fields = [
                pa.field(f.name, f.type, metadata={b"PARQUET:field_id": str(ids[f.name]).encode()})
                for f in table.schema
            ]
            table = pa.table(table.columns, schema=pa.schema(fields))
        if self._writer is None:
            self._stream = _open(self._plan, self._name)
            self._writer = pq.ParquetWriter(self._stream, table.schema, compression="zstd")
        self._writer.write_table(table, row_group_size=max(len(table), 1))


class _BucketFiles:
    """As _File, of rows that come by bucket: one file after the other, each below its bucket's folder."""

    def __init__(self, plan: WriterPlan, name: str) -> None:
        self._plan, self._name = plan, name
        self._bucket: int | None = None
        self._file: _File | None = None
        self._paths: list[str] = []

    def add(self, table: "pa.Table") -> None:
        """Rows with their bucket. Raises PermanentError if one comes again: its file is finished."""
        import pyarrow.compute as pc

        for bucket in pc.unique(table[BUCKET]).to_pylist():
            same = pc.is_null(table[BUCKET]) if bucket is None else pc.equal(table[BUCKET], bucket)
            if self._file is None or bucket != self._bucket:
                self._next(bucket)
            assert self._file is not None  # noqa: S101  (_next opened it)
            self._file.add(table.filter(same))

    def close(self) -> list[str]:
        """Paths of the finished files."""
        if self._file is not None:
            self._paths += self._file.close()
            self._file = None
        return self._paths

    def _next(self, bucket: int | None) -> None:
        self.close()
        name = f"{bucket_folder(self._plan.bucket_field or '', bucket)}/{self._name}"
        if f"{self._plan.folder}/{name}" in self._paths:
            raise PermanentError(f"Rows of bucket {bucket} came twice to {name}. This is a defect of the platform.")
        self._bucket, self._file = bucket, _File(self._plan, name, list(self._plan.field_ids))


def _open(plan: WriterPlan, name: str) -> Any:
    from pyarrow.fs import LocalFileSystem, S3FileSystem

    if not plan.store:
        local = LocalFileSystem()
        local.create_dir(f"{plan.folder}/{name}".rpartition("/")[0])
        return local.open_output_stream(f"{plan.folder}/{name}")
    return S3FileSystem(**plan.store).open_output_stream(f"{plan.folder.removeprefix('s3://')}/{name}")
