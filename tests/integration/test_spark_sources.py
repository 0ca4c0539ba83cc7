"""Sources that Spark's executors read: the rows that the embedded engine reads, of one moment, and nothing partial."""

import gzip
from typing import Any

import pytest

from etl_assets.graph import source_readers
from etl_assets.query import run_query
from etl_resources.errors import RestartError
from etl_resources.extract.spark_capture import capture_on_spark
from etl_resources.ledger.ledger import Ledger
from tests.integration.drifting import BEFORE, Drift, Make
from tests.invariants import prove_whole
from tests.lake import LINES, ORDERS, Lake

pytest_plugins = ["tests.lake", "tests.integration.drifting"]
pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("java")]
SPREAD = {"ETL_SIZE": "spread"}
MONTH = "2024-05"
DECLARED = {
    "id": "bigint", "day": "date", "i": "int", "d": "decimal(18,2)", "w": "decimal(38,9)", "t": "string",
    "born": "date", "seen": "timestamptz", "ok": "boolean",
    "mail": {"type": "string", "sensitive": "hash"}, "ssn": {"type": "bigint", "sensitive": "hash"},
    "phone": {"type": "string", "sensitive": "mask"}, "met": {"type": "date", "sensitive": "mask"},
}  # fmt: skip
TABLE = (
    "id bigint primary key, day date, i smallint, d numeric(18,2), w numeric(38,9), t text, born date, "
    "seen timestamptz, ok boolean, mail text, ssn bigint, phone varchar(20), met date, "
    "doc jsonb, mark uuid, bytes bytea"
)
ROWS = """
    (1, '2024-02-01', 7, 2.50, 12345678901234567890123456789.123456789, 'Straße ΑΣ ﬁ İ', '1582-10-10',
        '1582-10-10 12:00:00+00', true, 'A@b.test', 818200777, '+49 1', '1957-03-17',
        '{"n": 1.10, "t": "a\\"b"}', '00000000-0000-0000-0000-00000000000a', '\\x00ff'),
    (2, '2024-02-29', -7, -2.50, -0.000000001, E'a\\nb\\t\\\\c''d', '0001-01-01', '0001-01-01 00:00:00+00', false,
        '', -1, '', '0001-01-01', 'null', null, ''),
    (3, '2024-02-29', 0, 0, 0, '', '9999-12-31', '9999-12-31 23:59:59.999999+00', null, null, null, null, null,
        null, null, null),
    (4, '2024-02-15', null, null, null, null, null, null, null, 'é𝒳ñ 日本', 9223372036854775807, '*', '1969-12-31',
        '[]', null, '\\xdeadbeef'),
    (5, '2024-02-15', 32767, 9999999999999999.99, 1, 'é𝒳ñ 日本', '0044-02-29', '1969-12-31 23:59:59.999999+00', true,
        'x', 0, 'x', '2024-02-29', '"x"', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '\\x')
"""
MANY = (
    "select g, date '2024-01-01' + (g % 31), g % 100, g / 7.0, g / 7.0, 'row ' || g, null, "
    "timestamptz '2024-01-31 23:30:00-05' + g * interval '1 second', g % 2 = 0, 'm' || g, g, null, null, null, null, "
    "null from generate_series(100, 5099) as g"
)


def bronze_of(lake: Lake) -> dict[tuple[str, str], tuple[str, int]]:
    """(table, partition) → version and rows."""
    with Ledger.open(lake.settings) as ledger:
        found = {name: ledger.current(name) for name in lake.runtime.addresses if name.startswith("bronze.")}
    return {(name, p): (publish.version, publish.rows) for name, of in found.items() for p, publish in of.items()}


def published(drift: Drift) -> dict[str, tuple[Any, ...]]:
    """Partition → version, rows and what became of all rows."""
    with Ledger.open(drift.lake.settings) as ledger:
        return {p: (v.version, v.rows, v.counts) for p, v in ledger.current(drift.bronze).items()}


def letters(drift: Drift) -> list[tuple[Any, ...]]:
    """What was rejected: where it was, why, and what it was."""
    columns = "partition, source_row, rule, column_name, value, reason, key, payload, regexp_extract(source, '[^/]*$')"
    query = f"select {columns} from ledger.dead_letters where asset = '{drift.bronze}' order by all"
    with run_query(drift.runtime(), query) as found:
        rows = [row for batch in found.batches for row in batch]
    return [tuple(v.replace(drift.name, "it") if isinstance(v, str) else v for v in row) for row in rows]


def engine_of(drift: Drift) -> str:
    """That read the last capture."""
    found = drift.lake.platform(
        "select p.staged ->> 'engine' from etl.intent_partitions p join etl.intents using (attempt) where asset = %s",
        drift.bronze,
    )
    return str(found[-1][0])


def measured(drift: Drift) -> list[dict[str, Any]]:
    """What Spark did for each capture of rows, kept with its first partition."""
    found = drift.lake.platform(
        "select p.measures from etl.intent_partitions p join etl.intents i using (attempt) "
        "where asset = %s and p.measures is not null order by i.attempt",
        drift.bronze,
    )
    return [measures for (measures,) in found]


def both(make: Make, kind: str, mode: str | None, **fields: Any) -> tuple[Drift, Drift]:
    """The same dataset by each engine; each has a source of its own."""
    return make(kind, mode, **fields), make(kind, mode, size="spread", **fields)


def prove_same(embedded: Drift, spread: Drift) -> None:
    """Content, counts and letters; and it was executors that read."""
    assert published(spread) == published(embedded)
    assert letters(spread) == letters(embedded)
    assert engine_of(embedded).split()[0] == "duckdb"
    assert engine_of(spread).split()[0] == "pyspark"
    assert measured(embedded) == []
    (figures,) = measured(spread)[-1:]
    assert figures["jobs"] == 1
    assert figures["tasks"] >= 1
    spread.prove_whole()


@pytest.mark.parametrize("whole", [False, True], ids=["by month, one of them divided", "by blocks"])
def test_every_type_is_read_alike(make: Make, whole: bool) -> None:
    """Days of the old calendar, years 1 and 9999, all digits; hashed and masked columns; columns that nobody declared;
    text of types that no table has."""
    drifts = both(make, "postgres", "evolve", columns=DECLARED, whole=whole)
    for drift in drifts:
        drift.lake.erp("create schema if not exists erp")
        drift.lake.erp(f"create table erp.{drift.name} ({TABLE})")
        drift.lake.erp(f"insert into erp.{drift.name} values {ROWS}")
        drift.lake.erp(f"insert into erp.{drift.name} {MANY}")
        drift.statuses()
    prove_same(*drifts)
    assert sum(rows for _, rows, _ in published(drifts[1]).values()) == 5005


def test_values_that_no_longer_fit_are_rejected_alike(make: Make) -> None:
    """Good rows are written by executors, the others are the embedded engine's letters: together all of them."""
    drifts = both(make, "postgres", "quarantine")
    first, second = (dict(r) for r in BEFORE)
    for drift in drifts:
        drift.deliver(BEFORE)
        drift.statuses()
        rows = [first | {"qty": "7"}, second | {"qty": "many"}, second | {"id": 3, "qty": None}]
        drift.deliver(rows, types={"id": "bigint", "day": "date", "qty": "text", "note": "text"})
        drift.statuses()
    prove_same(*drifts)
    assert len(letters(drifts[1])) == 1


def test_a_year_that_no_table_holds_is_refused_as_ever(make: Make) -> None:
    """Before a task is started."""
    drift = make("postgres", None, size="spread")
    drift.deliver(BEFORE)
    drift.lake.erp(f"update erp.{drift.name} set day = 'infinity' where id = 1")
    drift.lake.erp(f"insert into erp.{drift.name} values (9, '2024-01-09', 1, 'x')")
    assert drift.statuses() == {"2024-01": "published", "2024-02": "published"}
    assert drift.published("id") == [(2,), (9,)]


CSV = b'id,day,qty,note\n1,2024-01-01,1,"a,\nb"\n2,2024-01-02,many,c\n3,2024-01-03\n4,2024-01-04,4,d\n'
JSON = (
    b'{"id": 1, "day": "2024-01-01", "qty": 1, "note": 3.10}\n{"id": 2, "day": "x", "qty": 2}\n{"id": 3,\n'
    b'{"id": 4, "qty": 9007199254740993, "note": {"n": 1.10}}\n'
)
DELIVERED = {
    "csv": {"a.csv": CSV, "b.csv.gz": gzip.compress(CSV.replace(b"\n1,", b"\n11,").replace(b"\n4,", b"\n14,"))},
    "json_lines": {"a": JSON, "b.gz": gzip.compress(JSON.replace(b'"id": ', b'"id": 1'))},
}
"""Rows that fit, rows that don't, and what is no row."""


@pytest.mark.parametrize("kind", ["csv", "json_lines", "parquet"])
def test_files_are_read_alike(make: Make, kind: str) -> None:
    """Rows, reasons and the numbers of rows in their files; of Parquet a column that has two types in two files."""
    drifts = both(make, kind, "quarantine" if kind == "parquet" else None)
    for drift in drifts:
        if kind == "parquet":
            drift.deliver(BEFORE, "a.parquet")
            drift.statuses()
            more = [{**BEFORE[0], "id": 3, "qty": "many"}, {**BEFORE[1], "id": 4, "qty": "5"}]
            drift.deliver(more, "b.parquet")
        for name, content in DELIVERED.get(kind, {}).items():
            drift.put(content, name)
        drift.statuses()
    prove_same(*drifts)
    assert letters(drifts[1])


def test_executors_read_the_moment_of_the_snapshot(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source changes when the snapshot is taken and nothing is read; what is published is what it was."""
    embedded, spread = both(make, "postgres", None)
    rows = [{"id": n, "day": BEFORE[n % 2]["day"], "qty": n, "note": "x" * n} for n in range(1, 40)]
    for drift in (embedded, spread):
        drift.deliver(rows)
    embedded.statuses()

    def changed_first(*given: Any, **also: Any) -> list[str]:
        spread.lake.erp(f"delete from erp.{spread.name} where id % 3 = 0")
        spread.lake.erp(f"update erp.{spread.name} set note = 'later', day = '2024-02-02' where id % 3 = 1")
        spread.lake.erp(f"insert into erp.{spread.name} select 100 + g, '2024-01-05', g from generate_series(1, 9) g")
        return capture_on_spark(*given, **also)

    monkeypatch.setattr(source_readers, "capture_on_spark", changed_first)
    spread.statuses()
    prove_same(embedded, spread)
    monkeypatch.undo()
    spread.statuses()
    assert len(spread.published("id")) == 39 - 13 + 9


def test_without_the_transaction_that_holds_the_snapshot_nothing_is_read(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that came later would read another moment: the step starts again instead."""
    drift = make("postgres", None, size="spread")
    drift.deliver(BEFORE)
    read: list[Any] = []

    def ended_first(*given: Any, **also: Any) -> list[str]:
        drift.lake.erp(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and state = 'idle in transaction'"
        )
        read.append(given)
        return capture_on_spark(*given, **also)

    monkeypatch.setattr(source_readers, "capture_on_spark", ended_first)
    with pytest.raises(RestartError, match="the transaction that holds the captured snapshot has ended"):
        drift.capture()
    assert read
    assert published(drift) == {}
    monkeypatch.undo()
    assert drift.statuses() == {"2024-01": "published", "2024-02": "published"}


def test_a_driver_that_is_killed_leaves_nothing(lake: Lake) -> None:
    """Executors have written everything; the embedded engine goes on from nothing."""
    points = [{"point": "capture.files_written", "match": "sales_lines", "action": "kill"}]
    assert lake.spawn(MONTH, points=points, **SPREAD).wait(400) is None
    assert bronze_of(lake) == {}
    run = lake.materialize(MONTH)
    assert run.success, run.error
    prove_whole(lake)


def test_what_executors_capture_needs_no_capture_by_the_embedded_engine(lake: Lake) -> None:
    """A size is no logic: fingerprints, versions and tokens are those of either."""
    run = lake.materialize(MONTH, selection=[ORDERS, LINES], **SPREAD)
    assert run.success, run.error
    by_spark = bronze_of(lake)
    (told,) = run.materializations(ORDERS).values()
    assert str(told.metadata["engine"].value).startswith("pyspark ")
    assert told.metadata["spark_jobs"].value == 1
    run = lake.materialize(MONTH)
    assert run.success, run.error
    assert set(run.statuses[ORDERS].values()) == {"pruned"}
    assert bronze_of(lake) == by_spark
    prove_whole(lake)
