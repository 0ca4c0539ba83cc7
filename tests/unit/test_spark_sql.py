"""SQL that is carried over to Spark, or refused by name. What Spark makes of it: integration/test_spark_parity.py."""

import subprocess
import sys
from pathlib import Path

import pytest

from etl_assets.project import load_project
from etl_resources.calendar import PERIOD, PERIOD_COLUMNS
from etl_resources.engines.spark_inputs import relation_columns
from etl_resources.engines.spark_session import jdbc_address
from etl_resources.engines.spark_sql import portability_problems, spark_condition, to_spark
from etl_resources.errors import PermanentError, RestartError, TransientError
from etl_resources.spark_errors import spark_error

COLUMNS = {
    "i": "int", "b": "bigint", "d": "decimal(18,2)", "t": "string", "day": "date", "at": "timestamptz", "ok": "boolean",
}  # fmt: skip
RELATIONS = {"silver.rows": COLUMNS}
REFUSED = {
    "d / 2": "divide differently",
    "avg(d)": "average differently",
    "d::double": "gives other values",
    "1e3 * b": "floating-point",
    "t::bigint": "a cast from text",
    "try_cast(t as date)": "its contract parses it",
    "d::varchar": "a cast from decimal",
    "day - day": "date_diff",
    "d // 2": "must be integers or hugeint",
    "concat(t, 'x')": "treat nulls differently",
    "t ilike 'x'": "fold case differently",
    "regexp_replace(t, 'a', 'b')": "only the first match",
    "regexp_replace(t, '^a*', 'b')": "matches the empty text",
    "regexp_matches(t, 'a\\sb')": "regular expression differently",
    "regexp_matches(t, '\\bx')": "regular expression differently",
    "at at time zone 'Europe/Berlin'": "give other types",
    "date_diff('month', day, day)": "the unit must be",
    "list(t)": "isn't among the constructs",
    "t[1:2]": "isn't among the constructs",
    "strftime(day, '%Y')": "isn't among the constructs",
    "any_value(t)": "isn't among the constructs",
    "random()": "isn't among the constructs",
    "count(distinct i) over ()": "no filter and no distinct",
    "substr(t, i, 2)": "must be literals",
    "substr(t, 0, 2)": "must be literals",
    "t = b": "it compares text with integer",
    "round(t, 1)": "must be of an integer or a decimal",
    "'2024-1-5'::date": "read differently",
    "t like 'a\\%'": "without an escape",
    "(d, b) = (1, 2)": "nulls inside are compared differently",
    "(i, d) in (select i, d from silver.rows)": "nulls inside are compared differently",
}


@pytest.mark.parametrize("expression", REFUSED)
def test_what_doesnt_carry_over_is_refused_by_name(expression: str) -> None:
    """A row that differs by engine is found by nobody; a refusal is read by whoever wrote the SQL."""
    sql = f"select b,\n  {expression} as x\nfrom silver.rows"
    problems = portability_problems(sql, RELATIONS)
    assert any(REFUSED[expression] in p.message for p in problems), [p.message for p in problems]
    assert {p.line for p in problems} == {2}
    assert to_spark(sql, RELATIONS).problems == problems


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("select b from silver.rows limit 3", "left to the engine"),
        ("select distinct on (b) b, i from silver.rows", "leaves the choice"),
        ("with recursive r as (select b from silver.rows union all select b from r) select b from r", "recursive"),
        ("select r.b from silver.rows as r asof join silver.rows as s on r.b = s.b and r.day >= s.day", "write the"),
        ("select unnest([1, 2]) as b from silver.rows", "isn't among"),
    ],
)
def test_queries_that_dont_carry_over_are_refused(sql: str, why: str) -> None:
    """As expressions are."""
    problems = portability_problems(sql, RELATIONS)
    assert any(why in p.message for p in problems), [p.message for p in problems]


def test_the_whole_example_carries_over() -> None:
    """`demo --size large` is what a newcomer tries first."""
    project = load_project(Path(__file__).parents[2] / "etl_assets")
    for node in project.tables.values():
        if node.sql is None:
            continue
        read = {n: relation_columns(project.tables[n].contract, with_run_id=True) for n in node.inputs}
        looked_up = {table.name: relation_columns(table.contract) for table in node.lookups}
        assert portability_problems(node.sql, {**read, **looked_up, PERIOD: PERIOD_COLUMNS}) == ()


def test_a_column_is_not_taken_for_a_result_of_the_same_name() -> None:
    """sqlglot's own replacement of qualify does that: other rows would win."""
    sql = "select b, -r.d as d from silver.rows as r qualify row_number() over (partition by b order by r.d) = 1"
    assert "ORDER BY r.d NULLS LAST) = 1 AS `_kept`" in to_spark(sql, RELATIONS).text


def test_a_construct_inside_of_another_is_carried_over_too() -> None:
    """What was rewritten is looked into."""
    text = to_spark("select upper(regexp_replace(t, '^a$', 'b')) || (b % (i // 2)) :: varchar as x from silver.rows",
                    RELATIONS).text  # fmt: skip
    assert "'^a\\\\z'" in text
    assert "DIV NULLIF(" in text
    assert "% NULLIF(" in text
    assert "TRANSLATE(" in text


def test_a_condition_is_of_the_columns_alone() -> None:
    """It stands in another query than the one that it was read in."""
    found = spark_condition("not (\"d\" >= '5'::decimal(38, 0))", COLUMNS, "rule ge")
    assert found == "((NOT (`d` >= CAST('5' AS DECIMAL(38, 0)))))"
    with pytest.raises(PermanentError, match=r"silver.x: rule m can't be computed by Spark: .*differently"):
        spark_condition("regexp_full_match(t, '\\w+')", COLUMNS, "silver.x: rule m")


def test_importing_the_steps_loads_no_spark() -> None:
    """It takes longer than everything else together."""
    code = "import sys, etl_assets.graph.table_step; print({'pyspark', 'py4j', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_an_address_of_the_catalog_has_no_secret_and_keeps_tls() -> None:
    """It may be shown; the password is an option of its own, which Spark redacts."""
    address, user, password = jdbc_address("postgresql://me:geheim@db:6543/lake?sslmode=verify-full")
    assert address == "jdbc:postgresql://db:6543/lake?currentSchema=iceberg_catalog&sslmode=verify-full"
    assert (user, password) == ("me", "geheim")


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("[DIVIDE_BY_ZERO] Division by zero. SQLSTATE: 22012", PermanentError, "Division by zero"),
        ("Job aborted: ExecutorLostFailure (executor 1 exited)", TransientError, "ExecutorLostFailure"),
        ("java.lang.OutOfMemoryError: Java heap space", PermanentError, "larger size"),
        ("Answer from Java side is empty", RestartError, "Spark ended"),
        ("Cannot find snapshot with ID 7", PermanentError, "data-pipeline verify"),
        ("ModuleNotFoundError: No module named 'etl_resources'", PermanentError, "Install it there"),
    ],
)
def test_errors_of_spark_are_told_by_kind(text: str, kind: type[Exception], told: str) -> None:
    """What helps is another size, another SQL, or another try."""

    class SparkError(Exception):
        pass

    SparkError.__module__ = "pyspark.errors"
    found = spark_error(SparkError(text), "gdp.sales, partition 2024-05")
    assert type(found) is kind
    assert str(found).startswith("gdp.sales, partition 2024-05: ")
    assert told in str(found)
    assert spark_error(ValueError(text.replace("Answer", "x")), "gdp.sales") is None
