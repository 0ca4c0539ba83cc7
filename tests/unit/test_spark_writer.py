"""What a Spark task does with judged rows; without Spark, as a task is only batches."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_resources.engines import spark_writer
from etl_resources.engines.spark_writer import BUCKET, WriterPlan, Written, write_rows
from etl_resources.errors import PermanentError

REASONS = pa.list_(pa.struct([("rule", pa.string()), ("column", pa.string()), ("reason", pa.string())]))
SCHEMA = pa.schema([
    ("id", pa.int64()), ("amount", pa.decimal128(18, 2)),
    ("_reasons", REASONS), ("_payload", pa.list_(pa.struct([("id", pa.string())]))),
    ("_key_rank", pa.int32()), ("_copies", pa.int64()), ("_digest", pa.string()),
])  # fmt: skip
BAD = [{"rule": "ge", "column": "amount", "reason": "amount is not >= 0"}]


def batch(*rows: tuple[int, str | None, bool, int, int]) -> pa.RecordBatch:
    """Rows of (id, amount, good, rank, copies)."""
    return pa.RecordBatch.from_pylist(
        [
            {"id": i, "amount": a and Decimal(a), "_reasons": None if good else BAD,
             "_payload": None if good else [{"id": str(i)}], "_key_rank": rank, "_copies": copies,
             "_digest": f"{2**64 - 1 - i:016x}{'9' * 16}"}
            for i, a, good, rank, copies in rows
        ],
        schema=SCHEMA,
    )  # fmt: skip


def plan(folder: Path) -> WriterPlan:
    return WriterPlan(str(folder), "mark", {"id": 1, "amount": 7}, ("amount",), {})


def test_what_is_counted_is_what_is_written(tmp_path: Path) -> None:
    """Good rows with the table's field ids, rejected ones beside, of a key the first alone; sums of all."""
    batches = [
        batch((1, "1.10", True, 1, 2), (1, "5.00", True, 2, 2)),
        batch((2, "-3.00", False, 1, 1), (3, None, True, 1, 1)),
    ]
    (answer,) = write_rows(plan(tmp_path), batches)
    found = Written.together(answer.column(0).to_pylist())
    assert (found.produced, found.written, found.rejected, found.deduplicated) == (4, 2, 1, 1)
    assert found.digits % 2**64 == 2**64 - 6
    assert found.sums == {"amount": "3.10"}
    (path,) = found.paths
    good = pq.read_table(path)
    assert good.to_pylist() == [{"id": 1, "amount": Decimal("1.10")}, {"id": 3, "amount": None}]
    assert [good.schema.field(n).metadata[b"PARQUET:field_id"] for n in ("id", "amount")] == [b"1", b"7"]
    (rejected,) = pq.read_table(found.rejected_paths[0]).to_pylist()
    assert (rejected["id"], rejected["_reasons"], rejected["_payload"]) == (2, BAD, {"id": "2"})


def test_a_task_without_rows_writes_and_says_nothing(tmp_path: Path) -> None:
    """A partition without rows is the driver's to mark."""
    assert list(write_rows(plan(tmp_path), [batch()])) == []
    assert list(tmp_path.iterdir()) == []
    assert Written.together([]) == Written()


def in_buckets(rows: pa.RecordBatch, *buckets: int | None) -> pa.RecordBatch:
    return rows.append_column(BUCKET, pa.array(buckets, pa.int32()))


def test_rows_that_come_by_bucket_are_a_file_each(tmp_path: Path) -> None:
    """Also where a bucket goes on in the next batch; rejected rows are one file of the task."""
    batches = [
        in_buckets(batch((1, "1", True, 1, 1), (2, "2", True, 1, 1), (3, "3", True, 1, 1)), None, 0, 5),
        in_buckets(batch((4, "4", True, 1, 1), (5, "-5", False, 1, 1), (6, "6", True, 1, 1)), 5, 5, 7),
    ]
    (answer,) = write_rows(replace(plan(tmp_path), bucket_field="id_bucket_8"), batches)
    found = Written.together(answer.column(0).to_pylist())
    files = {path.split("/")[-2]: pq.ParquetFile(path).read() for path in found.paths}
    ids = {folder: rows["id"].to_pylist() for folder, rows in files.items()}
    assert ids == {"id_bucket_8=null": [1], "id_bucket_8=0": [2], "id_bucket_8=5": [3, 4], "id_bucket_8=7": [6]}
    assert {tuple(rows.column_names) for rows in files.values()} == {("id", "amount")}
    assert (found.written, found.rejected, len(found.rejected_paths)) == (5, 1, 1)


def test_a_bucket_that_comes_again_ends_the_task(tmp_path: Path) -> None:
    """Its file is finished: a second one would have its name, and take its rows away."""
    batches = [in_buckets(batch((n, "1", True, 1, 1)), bucket) for n, bucket in enumerate((1, 2, 1))]
    with pytest.raises(PermanentError, match="bucket 1 came twice"):
        list(write_rows(replace(plan(tmp_path), bucket_field="id_bucket_8"), batches))


def test_tasks_are_added_up(tmp_path: Path) -> None:
    """Sums that no number of 64 bits holds."""
    one = Written(["a"], [], 3, 3, 0, 0, 2**63, {"amount": "99999999999999999999999999999999999999.99"}).as_json()
    both = Written.together([one, one])
    assert (both.paths, both.written, both.digits) == (["a", "a"], 6, 2**64)
    assert both.sums == {"amount": "199999999999999999999999999999999999999.98"}


def test_rows_dont_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row group is written when it is full: a task's memory doesn't grow with its rows."""
    monkeypatch.setattr(spark_writer, "ROW_GROUP_ROWS", 10)
    (answer,) = write_rows(plan(tmp_path), (batch(*[(i, "1.00", True, 1, 1)] * 4) for i in range(10)))
    (path,) = Written.together(answer.column(0).to_pylist()).paths
    assert [pq.ParquetFile(path).metadata.row_group(i).num_rows for i in range(4)] == [12, 12, 12, 4]
