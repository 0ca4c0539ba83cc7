"""What the text of a query may say, decided without an engine."""

import pytest

from etl_assets.query_statement import QueryRefusedError, check_statement


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("from kpi.t limit 5", ("kpi.t",)),
        ("SELECT * FROM kpi.t;", ("kpi.t",)),
        ("/* why */ select 1 -- because", ()),
        ("with a as (from kpi.t) from a join gdp.u using (x)", ("kpi.t", "gdp.u")),
        ("(select 1)", ()),
        ("table kpi.t", ("kpi.t",)),
        ("describe kpi.t", ("kpi.t",)),
        ('describe "kpi"."t"', ("kpi.t",)),
        ("show kpi.t", ("kpi.t",)),
        ("summarize select a from kpi.t", ("kpi.t",)),
        ("explain from kpi.t", ("kpi.t",)),
        ("explain analyze select count(*) from kpi.T", ("kpi.t",)),
        ("select now(), random(), unnest([1]) from range(3)", ()),
        ("select * from postgres.analytics.t", ("postgres.analytics.t",)),
    ],
)
def test_reading_statements_are_accepted_with_the_tables_they_name(sql: str, tables: tuple[str, ...]) -> None:
    """Only these tables are opened; one that is missed would be unknown to the engine."""
    assert check_statement(sql).tables == tables


@pytest.mark.parametrize("sql", ["show tables", "SHOW ALL TABLES;"])
def test_show_tables_needs_no_engine(sql: str) -> None:
    assert check_statement(sql).lists_tables


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("", "no statement"),
        (";", "no statement"),
        ("explain", "no statement"),
        ("select 1; select 2", "2 statements"),
        ("select 1; drop table t", "2 statements"),
        ("select 'abc", "can't be read"),
        ("select from where", "Allowed:"),
        ("values (1)", "VALUES isn't allowed"),
        ("insert into kpi.t select 1", "INSERT isn't allowed"),
        ("with a as (select 1) insert into kpi.t from a", "INSERT"),
        ("create table x as select 1", "CREATE isn't allowed"),
        ("copy kpi.t to 'x.csv'", "COPY isn't allowed"),
        ("explain copy kpi.t to 'x.csv'", "COPY isn't allowed"),
        ("explain analyze insert into kpi.t select 1", "INSERT isn't allowed"),
        ("attach 'x.db'", "ATTACH isn't allowed"),
        ("install httpfs", "INSTALL isn't allowed"),
        ("set threads = 1", "SET isn't allowed"),
        ("pragma version", "PRAGMA isn't allowed"),
        ("call pragma_version()", "CALL isn't allowed"),
        ("select * from read_csv('x.csv')", "read_csv isn't allowed"),
        ("explain select * from read_csv('x.csv')", "read_csv isn't allowed"),
        ("describe select * from \"read_parquet\"('x')", "read_parquet isn't allowed"),
        ("select (select content from read_text('x'))", "read_text isn't allowed"),
        ("select * from iceberg_scan('s3://x')", "iceberg_scan isn't allowed"),
        ("select * from postgres_query('p', 'drop table t')", "postgres_query isn't allowed"),
        ("select * from duckdb_secrets()", "duckdb_secrets isn't allowed"),
        ("select * from json_execute_serialized_sql('x')", "isn't allowed"),
        ("select * from query('drop table t')", "query isn't allowed"),
        ("select getenv('HOME')", "getenv isn't allowed"),
        ("select $1", "isn't allowed"),
    ],
)
def test_anything_else_is_refused_with_what_is_allowed(sql: str, reason: str) -> None:
    """The message names what was refused: guessing what a CLI dislikes is no fun."""
    with pytest.raises(QueryRefusedError, match="Allowed: one SELECT") as refused:
        check_statement(sql)
    assert reason in str(refused.value)


@pytest.mark.parametrize("path", ["/etc/passwd", "s3://bucket/x.parquet", "x.csv"])
def test_a_file_is_a_table_that_nobody_knows(path: str) -> None:
    """DuckDB would read the file behind FROM 'x.csv'; as a name it isn't among the tables."""
    assert check_statement(f"from '{path}'").tables == (path,)
