"""Both engines give the same rows: construct by construct, letter by letter, and the same hash of every type."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from etl_resources.business_days import DAYS_COLUMNS, BusinessDays
from etl_resources.contract import Contract, ContractColumn
from etl_resources.engines.embedded import connect_offline
from etl_resources.engines.spark_inputs import given_rows
from etl_resources.engines.spark_session import spark_session
from etl_resources.engines.spark_sql import to_spark
from etl_resources.identifiers import literal
from etl_resources.manifest import Calendar
from etl_resources.manifest_sizes import SparkSize
from etl_resources.quality.content_hash import content_hash
from etl_resources.settings import load_settings

if TYPE_CHECKING:
    import duckdb
    from pyspark.sql import SparkSession

SIZE = SparkSize(cores=2, memory_mb=1024, shuffle_partitions=2)
COLUMNS = {
    "k": "bigint", "i": "int", "b": "bigint", "d": "decimal(18,2)", "s": "decimal(4,4)", "w": "decimal(38,9)",
    "t": "string", "day": "date", "seen": "timestamptz", "ok": "boolean",
}  # fmt: skip
ROWS = """
    (1, 7, -7, 2.50, 0.0500, 12345678901234567890123456789.123456789, 'Straße ΑΣ ﬁ İ',
        '2024-02-29', '2024-02-29 23:59:59.999999Z', true),
    (2, -7, 2, -2.50, -0.0500, -0.000000001, ' it''s a\\b % _ ', '0001-01-01', '0001-01-01 00:00:00Z', false),
    (3, 0, 0, 0.00, 0.0000, 0, '', '9999-12-31', '9999-12-31 23:59:59.999999Z', null),
    (4, null, null, null, null, null, null, null, null, null),
    (5, 2147483646, 9223372036854775807, 99999999.99, 0.9999, 1, 'é𝒳ñ 日本',
        '1969-12-31', '1969-12-31 23:59:59.999999Z', true),
    (6, 7, -7, 2.50, 0.0500, 3, E'line\\nbreak\\ttab', '2024-03-31', '2024-03-31 01:30:00Z', true),
    (7, -2147483647, -9223372036854775807, -0.01, -0.9999, 2, 'AB-12', '2023-12-31', '2023-12-31 12:00:00Z', false)
"""
EXPRESSIONS = (
    *("i // 2", "b // 2", "b // i", "b % 3", "i % 0", "i // 0", "(d * 100)::hugeint // 7", "(d * 100)::hugeint // 0"),
    *("(w::hugeint // 1000000000000 * 3) // 2", "w::hugeint % 7", "d::bigint", "s::int"),
    *("w::decimal(38, 2)", "d::decimal(18, 1)", "d <= 2.4::decimal(38, 1)", "d = w"),
    *("round(d, 1)", "round(d * s, 3)", "d * (1 - s)", "d * 0.1", "d + s", "-d", "abs(d)", "sign(d)", "sign(b // 2)"),
    *("floor(d)", "ceil(d)", "floor(s)", "greatest(i, 3)", "least(i, 3)", "greatest(d, s)", "coalesce(d, 0)"),
    *("nullif(i, 7)", "case when d > 0 then 1 when d < 0 then -1 end", "d between -1 and 3", "i in (7, 0)"),
    "i is null",
    *("i is distinct from 7", "ok and i > 0", "not ok", "i::varchar", "day::varchar", "ok::varchar"),
    *("upper(t)", "lower(t)", "trim(t)", "ltrim(t)", "length(t)", "substr(t, 2, 3)", "left(t, 3)", "right(t, 3)"),
    *("replace(t, ' ', '_')", "t || '|' || i::varchar", "t like '%a\b%'", "t like '_B-%'", "t = 'it''s'", "t < 'b'"),
    *("regexp_replace(t, '[a-z ]', 'x', 'g')", "regexp_replace(t, '^[A-Z]+', 'x')", "regexp_matches(t, '[0-9]{2}$')"),
    *("regexp_full_match(t, '.+')", "regexp_full_match(t, '[A-Z]{2}-\\d+')", "regexp_matches(t, 'k$')"),
    "regexp_matches(t, '(?:line|it)')",
    *("date_trunc('month', day)::date", "date_trunc('quarter', day)::date", "date_trunc('year', day)::date", "k % 2"),
    "case when k <> 3 then (day + interval 1 month)::date end",
    "case when k <> 2 then (day - interval 1 year)::date end",
    *("year(day)", "month(day)", "day(day)"),
    *("extract(quarter from day)", "date_diff('day', date '2024-01-01', day)", "seen::date", "day < date '2000-01-01'"),
    *("seen > timestamptz '2000-01-01 00:00:00+00'", "extract(year from seen)", "day = '2024-02-29'"),
    *("row_number() over (order by d, k)", "row_number() over (order by d desc, k)", "rank() over (order by t)"),
    *("dense_rank() over (partition by ok order by i)", "lag(i) over (order by k)", "lead(d, 2, 0) over (order by k)"),
    *("sum(d) over (partition by ok)", "count(*) over (order by i)", "sum(i) over (order by k rows 1 preceding)"),
    *("max(t) over (partition by ok)", "min(day) over ()", "(select max(d) from silver.rows)"),
)  # fmt: skip
QUERIES = (
    "select ok, count(*) as n, count(i) as c, sum(d) as s, min(t) as m, max(day) as x, count(distinct d) as u, "
    "sum(i) as w, count(*) filter (i > 0) as f, sum(distinct d) as sd from silver.rows group by all",
    "select sum(d) as s, count(*) as n, max(t) as m from silver.rows where false",
    "select arg_max(t, (day, k)) as a, arg_min(i, d) as b, arg_max(i, (ok, k)) as c from silver.rows",
    "select r.k, s.t from silver.rows as r left join silver.rows as s on r.i = s.i and s.k <> r.k",
    "select r.k, s.k as j from silver.rows as r full join silver.rows as s on r.b = s.k",
    "select k from silver.rows as r semi join silver.rows as s on r.k = s.i",
    "select k from silver.rows as r where not exists (select 1 from silver.rows as s where s.i = r.i and s.k > r.k)",
    "select i from silver.rows union select k from silver.rows",
    "select i from silver.rows union all select i from silver.rows",
    "select i from silver.rows intersect select i from silver.rows where ok",
    "select i from silver.rows except select i from silver.rows where ok",
    "select distinct i, ok from silver.rows",
    "select k, -d as d from silver.rows qualify row_number() over (partition by ok order by silver.rows.d, k) = 1",
    "with a as (select *, d * 2 as dd from silver.rows), b as (select k, dd from a where dd > 0) select * from b",
    "select i, sum(d) as s from silver.rows group by i having count(*) > 1",
    "select k from silver.rows where t not in (select t from silver.rows where t is not null and ok)",
)


@pytest.fixture(scope="module")
def spark(stack: object, java: object) -> "Iterator[SparkSession]":
    """On the session's servers, though these tests read local files."""
    with spark_session(load_settings(), SIZE) as session:
        yield session


@pytest.fixture(scope="module")
def rows(spark: "SparkSession", tmp_path_factory: pytest.TempPathFactory) -> Iterator["duckdb.DuckDBPyConnection"]:
    """Table silver.rows of the embedded engine, and Spark's view of the same file."""
    from etl_resources.tables.schema import duckdb_type

    path = str(tmp_path_factory.mktemp("rows") / "rows.parquet")
    with connect_offline() as engine:
        typed = ", ".join(f"{n}::{duckdb_type(kind)} as {n}" for n, kind in COLUMNS.items())
        engine.execute("create schema silver")
        engine.execute(f"create table silver.rows as select {typed} from (values {ROWS}) as v({', '.join(COLUMNS)})")
        engine.execute(f"copy silver.rows to {literal(path)} (format parquet)")
        spark.read.parquet(f"file://{path}").createOrReplaceTempView("silver__rows")
        yield engine


def plain(value: Any) -> Any:
    """A value as a store keeps it: numbers by value, not by the type that an engine has for them."""
    if isinstance(value, Decimal | int) and not isinstance(value, bool):
        return Decimal(value).normalize()
    return str(value) if value is not None and not isinstance(value, bool) else value


def both(engine: "duckdb.DuckDBPyConnection", spark: "SparkSession", sql: str) -> tuple[Any, Any]:
    """Rows of both engines, in an order of their own."""
    carried = to_spark(sql, {"silver.rows": COLUMNS})
    assert not carried.problems, carried.problems
    ours = engine.execute(sql).fetchall()
    theirs = [tuple(row) for row in spark.sql(carried.text).collect()]
    return tuple(sorted((tuple(map(plain, row)) for row in found), key=repr) for found in (ours, theirs))


def test_every_construct_gives_the_same_values(rows: "duckdb.DuckDBPyConnection", spark: "SparkSession") -> None:
    """Nulls, negatives, halves, zero, the years 1 and 9999, other alphabets: all at once, told apart by expression."""
    items = ", ".join(f"{e} as x{n}" for n, e in enumerate(EXPRESSIONS))
    ours, theirs = both(rows, spark, f"select k, {items} from silver.rows")
    different = {
        e: [(a[0], a[n], b[n]) for a, b in zip(ours, theirs, strict=True) if a[n] != b[n]]
        for n, e in enumerate(EXPRESSIONS, start=1)
    }
    assert {e: d for e, d in different.items() if d} == {}


@pytest.mark.parametrize("sql", QUERIES)
def test_every_kind_of_query_gives_the_same_rows(
    sql: str, rows: "duckdb.DuckDBPyConnection", spark: "SparkSession"
) -> None:
    """Groups, joins, sets, windows, ties and no rows at all."""
    ours, theirs = both(rows, spark, sql)
    assert ours == theirs


def test_days_of_the_calendar_are_the_same(rows: "duckdb.DuckDBPyConnection", spark: "SparkSession") -> None:
    """With holidays whose names have quotes and backslashes."""
    holidays = {"days": {"2024-05-01": "Workers' Day", "2024-05-02": 'A "\\long\\" weekend'}}
    calendar = Calendar.model_validate({"start": "2023-08", "end": "2026-07", "holidays": holidays})
    ours = rows.sql(f"from {BusinessDays(calendar).relation}").fetchall()
    theirs = [tuple(row) for row in spark.sql(given_rows(ours, DAYS_COLUMNS)).collect()]
    assert len(ours) > 1000
    assert theirs == ours


def test_every_letter_has_the_same_case(rows: "duckdb.DuckDBPyConnection", spark: "SparkSession") -> None:
    """129 letters have another upper case by Java's rules than by DuckDB's."""
    rows.execute(
        "create or replace table silver.letters as select n::bigint as k, chr(n::int) as t "
        "from range(1, 70000) as r(n) where n not between 55296 and 57343"
    )
    path = Path(load_settings().home).resolve() / "letters.parquet"
    rows.execute(f"copy silver.letters to {literal(str(path))} (format parquet)")
    spark.read.parquet(f"file://{path}").createOrReplaceTempView("silver__letters")
    contract = Contract(
        (ContractColumn("k", "bigint"), ContractColumn("u", "string"), ContractColumn("l", "string")), ("k",), None
    )
    sql = "select k, upper('a' || t || 'b') as u, lower('A' || t || 'B') as l from silver.letters"
    carried = to_spark(sql, {"silver.letters": {"k": "bigint", "t": "string"}})
    ours = rows.execute(f"select {content_hash(contract, 'duckdb')} from ({sql})").fetchone()
    (theirs,) = spark.sql(f"select {content_hash(contract, 'spark')} from ({carried.text})").collect()
    assert ours == tuple(theirs)


def test_every_type_has_the_same_hash(rows: "duckdb.DuckDBPyConnection", spark: "SparkSession") -> None:
    """The version of a partition says nothing of the engine that made it."""
    contract = Contract(tuple(ContractColumn(n, kind) for n, kind in COLUMNS.items()), ("k",), None)
    evolved = replace(contract, columns=(*contract.columns[:-1], replace(contract.columns[-1], evolved=True)))
    for of in (contract, evolved):
        ours = rows.execute(f"select {content_hash(of, 'duckdb')} from silver.rows").fetchone()
        (theirs,) = spark.sql(f"select {content_hash(of, 'spark')} from silver__rows").collect()
        assert ours == tuple(theirs)
    empty = spark.sql(f"select {content_hash(contract, 'spark')} from silver__rows where false").collect()
    assert tuple(empty[0]) == ("0" * 16,)
