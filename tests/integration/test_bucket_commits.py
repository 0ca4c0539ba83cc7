"""Files split by bucket: the protocol is the same, any reader finds each row, and no spec of files is lost (M4b)."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from duckdb_extensions import import_extension
from pyiceberg.expressions import EqualTo, IsNull
from pyiceberg.transforms import BucketTransform

from etl_resources.contract import Contract, ContractColumn
from etl_resources.conventions import bucket_folder, parse_bucket, staged_folder
from etl_resources.engines.bucketed_files import write_buckets
from etl_resources.engines.embedded import connect_offline
from etl_resources.errors import PermanentError
from etl_resources.manifest_buckets import Buckets
from etl_resources.tables.catalog import ensure_table
from etl_resources.tables.compaction import plan_rewrites
from etl_resources.tables.data_files import data_files
from etl_resources.tables.head import read_head
from etl_resources.tables.partitioning import Bucketing
from etl_resources.tables.schema import field_ids, iceberg_schema
from tests.integration.local_table import (
    CONTRACT,
    EMPTY,
    FEB,
    IDENTIFIER,
    JAN,
    MAR,
    LocalTable,
    close,
    prove_epochs_grow,
    sqlite_catalog,
    token_of,
)

BUCKETED = replace(CONTRACT, buckets=Buckets(of="order_id", count=6))
COUNT = 16
VALUES: dict[str, Callable[[int], Any]] = {
    "bigint": lambda i: i * 7919 * (1 << 40) * (-1) ** i % (1 << 62),
    "int": lambda i: i * 7919 - 5_000_000,
    "string": lambda i: f"ü{i}漢😀" if i % 2 else f"k{i}" * (i % 5),
    "date": lambda i: date(1950, 1, 1) + timedelta(days=i * 11),
    "decimal(18,2)": lambda i: Decimal(f"{(i * 7919 - 500_000) / 100:.2f}"),
    "decimal(38,0)": lambda i: Decimal((i - 100) * 10**30),
    "timestamptz": lambda i: datetime(1960, 1, 1, tzinfo=UTC) + timedelta(minutes=i * 100_003, microseconds=i),
}


@pytest.fixture
def table(tmp_path: Path) -> Iterator[LocalTable]:
    """With six buckets; afterwards epochs must have grown, whatever the test did."""
    catalog = sqlite_catalog(tmp_path)
    local = LocalTable(catalog, tmp_path, contract=BUCKETED)
    yield local
    prove_epochs_grow(local)
    close(catalog)


def specs(table: LocalTable, partition: str) -> set[int]:
    return {f.spec_id for f in read_head(table.table)[partition].files if f.record_count}


def records(table: LocalTable) -> list[list[Any]]:
    return [list(f.partition) for head in read_head(table.table).values() for f in head.files]


def test_a_publish_replaces_all_buckets_of_a_period(table: LocalTable) -> None:
    """The unit of commit stays the period; orders 0 and 1 lie in two buckets."""
    table.commit("a", 1, {JAN: 10, FEB: 11})
    assert len(table.files(JAN)) == 2
    staged = table.stage("b", 2, {JAN: 20})
    table.commit("c", 3, {FEB: 12})
    assert table.publish("b", staged).how == "rebase"
    assert table.contents() == {JAN: 20, FEB: 12}
    assert sorted(record[0] for record in records(table)) == [648, 648, 649, 649]
    assert {record[1] for record in records(table)} == {BucketTransform(6).transform(iceberg_long())(i) for i in (0, 1)}


def iceberg_long() -> Any:
    return iceberg_schema(CONTRACT, with_run_id=False).find_field("order_id").field_type


def test_an_emptied_period_keeps_a_sleeping_writer_out(table: LocalTable) -> None:
    """Its tombstone is in one bucket, and holds the epoch against every one of them; so does an alias."""
    table.commit("a", 1, {JAN: 10, FEB: 11})
    zombies = {name: table.stage(name, epoch, {JAN: 20, FEB: 21}) for name, epoch in (("z", 2), ("y", 3))}
    table.commit("d", 4, {JAN: EMPTY})
    table.commit("e", 5, {FEB: 11}, alias_of={FEB: 1})
    for name, staged in zombies.items():
        assert table.publish(name, staged).fenced == (JAN, FEB)
    assert table.contents() == {FEB: 11}
    assert table.epochs() == {JAN: 4, FEB: 5}
    assert [648, 0] in records(table)
    table.commit("f", 6, {JAN: 30})
    assert table.contents() == {JAN: 30, FEB: 11}
    assert [648, 0] not in records(table)


def test_buckets_come_change_and_go_while_files_stay_readable(table: LocalTable) -> None:
    """Each change is a new spec of the table; files stay in theirs until their period is published again."""
    table.ensure(CONTRACT)
    table.commit("a", 1, {JAN: 10, FEB: 11, MAR: 12})
    table.ensure(replace(CONTRACT, buckets=Buckets(of="order_id", count=8)))
    table.commit("b", 2, {FEB: 21})
    table.ensure(BUCKETED)
    table.commit("c", 3, {MAR: 32})
    assert table.contents() == {JAN: 10, FEB: 21, MAR: 32}
    assert len({*specs(table, JAN), *specs(table, FEB), *specs(table, MAR)}) == 3
    before = len(table.table.specs())
    table.ensure(CONTRACT)
    table.ensure(BUCKETED)
    assert len(table.table.specs()) == before, "a spec of before is used again"
    assert table.epochs() == {JAN: 1, FEB: 2, MAR: 3}
    table.commit("d", 4, {JAN: 40, FEB: EMPTY})
    assert table.contents() == {JAN: 40, MAR: 32}
    assert [f.name for f in table.table.spec().fields] == ["partition_month", "order_id_bucket_6"]


@pytest.mark.parametrize("intervening", [False, True], ids=["fast_forward", "rebase"])
def test_what_was_written_before_the_buckets_changed_is_published_as_it_was_written(
    table: LocalTable, intervening: bool
) -> None:
    """A deploy in the middle of a run: by another spec its files would be looked for in other buckets."""
    table.commit("a", 1, {MAR: 9})
    names = [JAN, FEB]
    paths = [(p, path) for p in names for path in table.write_files(p, 2, token_of("b"), 20)]
    then = data_files(table.table.io, table.table.metadata, paths)
    table.ensure(CONTRACT)
    late = data_files(table.table.io, table.table.metadata, paths)
    assert [(f.spec_id, f.partition) for f in late] == [(f.spec_id, f.partition) for f in then]
    staged = table.stage("b", 2, dict.fromkeys(names, 20), token=token_of("b"))
    if intervening:
        table.commit("c", 3, {MAR: 30})
    table.publish("b", staged)
    plain = specs(table, JAN)
    table.ensure(BUCKETED)
    staged = table.stage("d", 4, {JAN: 40})
    table.ensure(CONTRACT)
    if intervening:
        table.commit("e", 5, {MAR: 50})
    table.publish("d", staged)
    assert table.contents() == {JAN: 40, FEB: 20, MAR: 50 if intervening else 9}
    assert specs(table, JAN) != plain == specs(table, FEB)
    snapshot = table.table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary["total-records"] == "6"


def test_files_without_buckets_are_refused_where_the_table_always_had_some(table: LocalTable) -> None:
    """No spec says where a reader would look for them."""
    path = table.write(JAN, 1, token_of("a"), 10)
    with pytest.raises(PermanentError, match="without buckets was written, which the table never had"):
        data_files(table.table.io, table.table.metadata, [(JAN, path)])


def test_compaction_stays_within_buckets_and_rearranges_what_is_older(table: LocalTable) -> None:
    """Small files of two buckets are not put together; a marker goes with one of them."""
    table.ensure(CONTRACT)
    table.commit("a", 1, {JAN: 10})
    table.ensure(BUCKETED)
    table.commit("b", 2, {FEB: 11, MAR: 12})
    table.commit("c", 3, {FEB: 11}, alias_of={FEB: 2})
    planned = plan_rewrites(read_head(table.table), 1 << 30, table.table.spec().spec_id)
    assert [(r.partition, len(r.files), len(r.markers)) for r in planned] == [(JAN, 1, 0), (FEB, 1, 1)]
    heads = read_head(table.table)
    heads[MAR].files *= 3
    tripled = [r for r in plan_rewrites(heads, 1 << 30, table.table.spec().spec_id) if r.partition == MAR]
    assert sorted(sorted({f.partition[1] for f in r.files}) for r in tripled) == [[2], [4]]
    assert [len(r.files) for r in tripled] == [3, 3]


@pytest.mark.parametrize("bucket", [4, None])
def test_a_row_in_a_wrong_bucket_is_refused(table: LocalTable, bucket: int | None) -> None:
    """A reader that looks for it would not open its file: it would be lost without a word."""
    folder = f"{staged_folder(table.location, JAN, 1, token_of('a'))}/{bucket_folder('order_id_bucket_6', bucket)}"
    Path(folder).mkdir(parents=True)
    right = [i for i in range(100) if BucketTransform(6).transform(iceberg_long())(i) == 4]
    for wrong in ([], [1]):
        ids = ", ".join(map(str, [*right, *wrong]))
        query = f"select unnest([{ids}])::bigint as order_id, date '2024-01-02' as order_date"
        table.copy(f"{query}, 1::decimal(15,2) as amount", f"{folder}/part-0.parquet")
        if bucket == 4 and not wrong:
            data_files(table.table.io, table.table.metadata, [(JAN, f"{folder}/part-0.parquet")])
            continue
        with pytest.raises(PermanentError, match=r"2024-01: .*part-0.parquet holds rows of bucket \d of order_id"):
            data_files(table.table.io, table.table.metadata, [(JAN, f"{folder}/part-0.parquet")])


@pytest.mark.parametrize("kind", VALUES)
def test_every_value_is_in_its_bucket_and_found_there_by_every_reader(kind: str, tmp_path: Path) -> None:
    """Written by our engine; PyIceberg and DuckDB's iceberg_scan open one file of all, and find the row in it. A table
    without periods, with nulls."""
    columns = (ContractColumn("n", "int", nullable=False), ContractColumn("k", kind))
    contract = Contract(columns, ("n",), None, buckets=Buckets(of="k", count=COUNT))
    catalog = sqlite_catalog(tmp_path)
    table = ensure_table(catalog, IDENTIFIER, str(tmp_path / "warehouse" / "t"), contract)
    buckets = Bucketing.of(table)
    assert buckets is not None
    values = [None if i == 7 else VALUES[kind](i) for i in range(200)]
    transform = BucketTransform(COUNT).transform(table.schema().find_field("k").field_type)
    with connect_offline() as engine, suppress(StopIteration):
        engine.register("given", pa.table({"n": pa.array(range(200), pa.int32()), "k": typed(values, kind)}))
        folder = staged_folder(str(tmp_path / "warehouse" / "t"), "all", 1, "0a")
        Path(folder).mkdir(parents=True)
        ids = field_ids(table.schema(), contract.names)
        paths = write_buckets(
            engine, "from given", contract.names, buckets, kind, folder, "part", field_ids=ids, order=("n",)
        )
    assert len(paths) == len({parse_bucket(p) for p in paths}) == len({transform_of(transform, v) for v in values})
    for path in paths:
        file = pq.ParquetFile(path).read()
        assert file["n"].to_pylist() == sorted(file["n"].to_pylist())
        found = parse_bucket(path)
        assert found is not None
        assert {transform_of(transform, v) for v in file["k"].to_pylist()} == {found[1]}
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for data_file in data_files(table.io, table.metadata, [("all", path) for path in paths]):
            append.append_data_file(data_file)
    close(catalog)
    with duckdb.connect(config={"threads": 1}) as reader:
        for extension in ("httpfs", "avro", "iceberg"):
            import_extension(extension, con=reader)
            reader.execute(f"load {extension}")
        reader.execute("set timezone = 'UTC'")
        scan = f"from iceberg_scan('{table.metadata_location}') where"
        for value in [*values[:30:3], None]:
            wanted = [n for n, v in enumerate(values) if v == value]
            given: dict[str, Any] = {"statement": f"select n {scan} k = ?", "parameters": [value]}
            if value is None:
                given = {"statement": f"select n {scan} k is null", "parameters": []}
            assert [n for (n,) in reader.execute(given["statement"], given["parameters"]).fetchall()] == wanted
            literal = value.isoformat() if isinstance(value, date) else value
            condition = IsNull("k") if value is None else EqualTo("k", literal)
            scanned = table.scan(condition)
            assert [row["n"] for row in scanned.to_arrow().to_pylist()] == wanted
            assert len(list(scanned.plan_files())) == 1
        profile = reader.execute(f"explain analyze select n {scan} k = {shown(values[20], kind)}").fetchall()[0][1]
        assert "Total Files Read: 1 " in profile


def typed(values: list[Any], kind: str) -> pa.Array:
    from etl_resources.tables.schema import arrow_type

    return pa.array(values, arrow_type(kind))


def transform_of(transform: Callable[[Any], int | None], value: Any) -> int | None:
    """PyIceberg's own, in Python, where it takes the value: of days and microseconds for dates and times."""
    if isinstance(value, datetime):
        return transform((value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
    return transform((value - date(1970, 1, 1)).days if isinstance(value, date) else value)


def shown(value: Any, kind: str) -> str:
    """A literal of DuckDB."""
    types = {"bigint": "bigint", "int": "int", "string": "varchar", "date": "date", "timestamptz": "timestamptz"}
    return f"'{value}'::{types.get(kind, kind)}"
