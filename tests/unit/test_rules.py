"""A contract as SQL rules: casts that lose nothing, and reasons for every rejected row (M12, A5)."""

from dataclasses import replace
from typing import Any

import duckdb
import pytest

from etl_resources.contract import Contract, ContractColumn
from etl_resources.errors import PermanentError
from etl_resources.identifiers import literal
from etl_resources.manifest_columns import Rule
from etl_resources.quality.rules import rejection_reasons, typed_columns


@pytest.fixture(scope="module")
def engine() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    return connection


def judge(engine: duckdb.DuckDBPyConnection, column: ContractColumn, value_sql: str) -> tuple[Any, list[str]]:
    """(typed value, texts of the reasons) of one value in one column."""
    value, reasons = judge_rules(engine, column, value_sql)
    return value, [reason["reason"] for reason in reasons]


def judge_rules(
    engine: duckdb.DuckDBPyConnection, column: ContractColumn, value_sql: str
) -> tuple[Any, list[dict[str, Any]]]:
    """(typed value, reasons) of one value in one column."""
    contract = Contract((column,), key=(column.name,), partition_column=column.name)
    produced = {n: t for n, t, *_ in engine.execute(f'describe select {value_sql} as "{column.name}"').fetchall()}
    typed = ", ".join(typed_columns("silver.t", contract, produced))
    row = engine.execute(
        f'with produced as (select {value_sql} as "{column.name}"), '
        f"typed as (select {typed}, _raw as _payload from produced as _raw) "
        f'select "{column.name}", {rejection_reasons(contract, produced)} from typed'
    ).fetchone()
    assert row is not None
    return row[0], row[1]


@pytest.mark.parametrize(
    ("declared", "text", "typed"),
    [
        ("bigint", " -12 ", "-12"),
        ("decimal(15,2)", "1.5", "1.50"),
        ("decimal(15,2)", "+.5", "0.50"),
        ("decimal(15,2)", "7.", "7.00"),
        ("decimal(15,2)", "1.500", "1.50"),
        ("date", "2024-02-29", "2024-02-29"),
        ("boolean", "true", "True"),
        ("timestamptz", "2024-02-29 12:00:00+02", "2024-02-29 10:00:00+00:00"),
        ("timestamptz", "2024-02-29T12:00:00.500Z", "2024-02-29 12:00:00.500000+00:00"),
        ("timestamptz", "2024-02-29", "2024-02-29 00:00:00+00:00"),
    ],
)
def test_text_that_says_a_value_exactly_is_parsed(
    engine: duckdb.DuckDBPyConnection, declared: str, text: str, typed: str
) -> None:
    """Sources that deliver text (files, APIs) need no cast in the SQL."""
    value, reasons = judge(engine, ContractColumn("x", declared), literal(text))
    assert (str(value), reasons) == (typed, [])


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ("bigint", "1.5"),
        ("bigint", "1e3"),
        ("bigint", "12 pieces"),
        ("int", "3000000000"),
        ("decimal(15,2)", "1.005"),
        ("decimal(15,2)", "."),
        ("decimal(3,2)", "12.00"),
        ("date", "2024-02-30"),
        ("date", "2024-02-29 10:00:00"),
        ("date", "infinity"),
        ("date", "05-01-24"),
        ("date", "31/12/23"),
        ("timestamptz", "infinity"),
        ("timestamptz", "epoch"),
        ("timestamptz", "2024-02-29 12:00:00.123456789Z"),
        ("boolean", "maybe"),
        ("timestamptz", "yesterday"),
    ],
)
def test_text_that_would_lose_something_is_rejected(
    engine: duckdb.DuckDBPyConnection, declared: str, text: str
) -> None:
    """DuckDB's cast rounds 1.5 to 2 and 1.005 to 1.01: money would change without a trace."""
    value, reasons = judge(engine, ContractColumn("x", declared), literal(text))
    assert (value, reasons) == (None, [f"x is not a {declared}"])


@pytest.mark.parametrize(
    ("produced", "declared"),
    [("1::int", "bigint"), ("1::tinyint", "int"), ("1.5::decimal(4,1)", "decimal(15,2)"), ("'a'", "string")],
)
def test_numbers_are_widened(engine: duckdb.DuckDBPyConnection, produced: str, declared: str) -> None:
    """A wider type holds every value of a narrower one."""
    assert judge(engine, ContractColumn("x", declared), produced)[1] == []


@pytest.mark.parametrize(
    ("produced", "declared"),
    [
        ("1::bigint", "int"),
        ("1.5::double", "decimal(15,2)"),
        ("1.555::decimal(15,3)", "decimal(15,2)"),
        ("1::decimal(18,2)", "decimal(15,2)"),
        ("now()::timestamp", "timestamptz"),
        ("date '2024-01-01'", "timestamptz"),
        ("1::hugeint", "bigint"),
    ],
)
def test_a_cast_that_may_lose_digits_is_the_transforms_to_write(
    engine: duckdb.DuckDBPyConnection, produced: str, declared: str
) -> None:
    """How to round is business logic; the message says which column, both types, and what to do."""
    with pytest.raises(PermanentError, match=r"silver\.t: column x is .* says .*Cast it in the SQL"):
        judge(engine, ContractColumn("x", declared), produced)


def test_a_missing_column_is_named() -> None:
    """The transform and the contract drifted apart: nothing may be written."""
    contract = Contract((ContractColumn("a", "int"), ContractColumn("b", "int")), ("a",), "a")
    with pytest.raises(PermanentError, match=r"silver\.t: the transform gives no column b"):
        typed_columns("silver.t", contract, {"a": "INTEGER"})


def test_null_passes_rules_and_only_not_null_rejects_it(engine: duckdb.DuckDBPyConnection) -> None:
    """A rule speaks about values; whether there has to be one is said by nullable."""
    rule = Rule(ge=0)
    assert judge(engine, ContractColumn("x", "int", rules=(rule,)), "null::int") == (None, [])
    required = ContractColumn("x", "int", nullable=False, rules=(rule,))
    assert judge(engine, required, "null::int") == (None, ["x is null"])


def test_text_that_does_not_parse_is_not_called_null(engine: duckdb.DuckDBPyConnection) -> None:
    """The reason has to lead to the defect: the value is there, but it isn't a number."""
    required = ContractColumn("x", "bigint", nullable=False)
    assert judge(engine, required, "'abc'")[1] == ["x is not a bigint"]


@pytest.mark.parametrize(
    ("declared", "rule", "good", "bad", "reason"),
    [
        ("int", Rule(ge=1), "1", "0", "x is not >= 1"),
        ("int", Rule(gt=0, lt=10), "9", "10", "x is not < 10"),
        ("bigint", Rule(le=2**53 + 1), f"{2**53 + 1}", f"{2**53 + 2}", f"x is not <= {2**53 + 1}"),
        ("decimal(15,2)", Rule(ge="0.01"), "0.01", "0.00", "x is not >= 0.01"),
        ("decimal(15,2)", Rule(ge="0.004"), "0.01", "0.00", "x is not >= 0.004"),
        ("decimal(15,2)", Rule(lt="0.999"), "0.99", "1.00", "x is not < 0.999"),
        ("decimal(38,10)", Rule(le=1), "1", "1.0000000001", "x is not <= 1"),
        ("date", Rule(lt="2025-01-01"), "date '2024-12-31'", "date '2025-01-01'", "x is not < 2025-01-01"),
        ("string", Rule(isin=("O", "it's")), "'it''s'", "'P'", "x is not one of O, it's"),
        ("int", Rule(isin=(1, 2)), "2", "3", "x is not one of 1, 2"),
        ("decimal(15,2)", Rule(isin=("0.005", 1)), "1", "0.01", "x is not one of 0.005, 1"),
        ("string", Rule(matches="[A-Z]{3}"), "'EUR'", "'EURO'", "x does not match [A-Z]{3}"),
    ],
)
def test_a_rule_keeps_its_bound_and_rejects_what_is_beyond(
    engine: duckdb.DuckDBPyConnection, declared: str, rule: Rule, good: str, bad: str, reason: str
) -> None:
    """Exactly at the bound, with the bound as the manifest wrote it: not rounded to the column's scale."""
    column = ContractColumn("x", declared, rules=(rule,))
    cast = f"::{declared}" if declared.startswith("decimal") else ""
    kind = {"int": "::int", "bigint": "::bigint"}.get(declared, cast)
    assert judge(engine, column, good + kind)[1] == []
    assert judge(engine, column, bad + kind)[1] == [reason]


def test_a_reason_names_its_rule_and_column_apart_from_its_text(engine: duckdb.DuckDBPyConnection) -> None:
    """Texts are for people and may be reworded; dead letters are counted and found by rule and column."""
    rule = Rule(ge=10, gt=10, le=0, lt=0, isin=(20,))
    column = ContractColumn("x", "int", nullable=False, reason="there is no x", rules=(rule,))
    broken = judge_rules(engine, column, "'1'")[1]
    assert [(r["rule"], r["column"]) for r in broken] == [(name, "x") for name in ("ge", "gt", "le", "lt", "isin")]
    assert broken[0]["reason"] == "x is not >= 10"
    assert judge_rules(engine, column, "'a'")[1] == [{"rule": "type", "column": "x", "reason": "x is not a int"}]
    assert judge_rules(engine, column, "null::int")[1] == [
        {"rule": "not_null", "column": "x", "reason": "there is no x"}
    ]
    text = ContractColumn("x", "string", rules=(Rule(matches="[A-Z]"),))
    assert judge_rules(engine, text, "'a'")[1][0]["rule"] == "matches"


def test_a_row_has_all_its_reasons(engine: duckdb.DuckDBPyConnection) -> None:
    """Who corrects a dead letter corrects it once."""
    column = ContractColumn("x", "int", rules=(Rule(ge=10, isin=(20,)),))
    assert judge(engine, column, "1")[1] == ["x is not >= 10", "x is not one of 20"]


def test_a_null_is_rejected_with_the_reason_that_its_column_gives(engine: duckdb.DuckDBPyConnection) -> None:
    """Who reads the dead letter is told what was missing, not which column of ours is null."""
    column = ContractColumn("rate", "int", nullable=False, reason="no exchange rate at most 10 days before the order")
    assert judge(engine, column, "null::int") == (None, ["no exchange rate at most 10 days before the order"])
    assert judge(engine, column, "'a'") == (None, ["rate is not a int"])
    assert judge(engine, replace(column, reason=None), "null::int") == (None, ["rate is null"])
