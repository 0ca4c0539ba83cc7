"""Rules of rows: what rejects names its rule; what warns or stops is counted in the written rows (M12, A5)."""

from typing import Any

import duckdb
import pytest

from etl_resources.contract import Contract, ContractColumn
from etl_resources.manifest_columns import Length, RowRule, Rule
from etl_resources.quality.declared_checks import row_checks
from etl_resources.quality.row_checks import SAMPLES, audit_rows
from etl_resources.quality.rules import rejection_reasons, typed_columns
from etl_resources.sql_expression import expression_problems

SHIPPED = RowRule(name="shipped_later", expression="ship_date >= order_date -- a day is enough")


@pytest.fixture(scope="module")
def engine() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def contract(*rules: RowRule, **of_code: Any) -> Contract:
    columns = (
        ContractColumn("id", "int"),
        ContractColumn("code", "string", **of_code),
        ContractColumn("order_date", "date"),
        ContractColumn("ship_date", "date"),
    )
    return Contract(columns, ("id",), "order_date", rules)


def rows(*values: str) -> str:
    return f"(select * from (values {', '.join(values)}) as v(id, code, order_date, ship_date))"


def reasons(engine: duckdb.DuckDBPyConnection, of: Contract, table: str) -> dict[int, list[tuple[Any, ...]]]:
    """id → (rule, column, text) of each reason."""
    produced = {n: t for n, t, *_ in engine.execute(f"describe from {table}").fetchall()}
    found = engine.execute(
        f"with typed as (select {', '.join(typed_columns('silver.t', of, produced))}, _raw as _payload "
        f"from {table} as _raw) select id, {rejection_reasons(of, produced)} from typed order by id"
    ).fetchall()
    return {row: [(r["rule"], r["column"], r["reason"]) for r in why] for row, why in found}


def test_a_text_has_its_length_in_characters(engine: duckdb.DuckDBPyConnection) -> None:
    """Not in bytes: a name with an umlaut is no longer than one without."""
    of = contract(rules=(Rule(length=Length(ge=2, le=4)),))
    table = rows(
        *(f"({i}, {text}, null::date, null::date)" for i, text in enumerate(("'äöüß'", "'ä'", "'abcde'", "null")))
    )
    assert reasons(engine, of, table) == {
        0: [],
        1: [("length", "code", "code is shorter than 2 characters")],
        2: [("length", "code", "code is longer than 4 characters")],
        3: [],
    }


def test_a_rule_on_several_columns_rejects_where_it_is_false_and_holds_where_it_is_null(
    engine: duckdb.DuckDBPyConnection,
) -> None:
    """As rules of columns do; a comment at its end comments nothing else away."""
    table = rows(
        "(1, 'a', date '2024-01-02', date '2024-01-02')", "(2, 'a', date '2024-01-02', date '2024-01-01')",
        "(3, 'a', date '2024-01-02', null)",
    )  # fmt: skip
    assert reasons(engine, contract(SHIPPED), table) == {
        1: [], 2: [("shipped_later", None, "shipped_later doesn't hold")], 3: [],
    }  # fmt: skip
    told = SHIPPED.model_copy(update={"reason": "shipped before it was ordered"})
    assert reasons(engine, contract(told), table)[2][0][2] == "shipped before it was ordered"


def test_only_rules_that_reject_give_reasons(engine: duckdb.DuckDBPyConnection) -> None:
    """A warning must not cost a row."""
    of = contract(
        SHIPPED.model_copy(update={"severity": "error"}),
        rules=(Rule(isin=("a",), severity="warn"), Rule(length=Length(le=1))),
    )
    table = rows("(1, 'bb', date '2024-01-02', date '2024-01-01')")
    assert reasons(engine, of, table) == {1: [("length", "code", "code is longer than 1 characters")]}


def test_rules_that_do_not_reject_are_counted_with_a_few_keys(engine: duckdb.DuckDBPyConnection) -> None:
    """Who is warned sees how many rows and which, and no more of them than fit a line."""
    of = contract(
        SHIPPED.model_copy(update={"severity": "error"}),
        rules=(Rule(isin=("a", "b"), severity="warn"), Rule(matches=".*", severity="warn", name="anything")),
    )
    table = rows(*(f"({i}, 'c', date '2024-01-02', null::date)" for i in range(20)),
                 "(20, null, date '2024-01-02', date '2024-01-01')")  # fmt: skip
    known, anything, shipped = audit_rows(engine, of, table)
    assert (known.name, known.passed, known.blocks, known.metadata["rows"]) == ("code_isin", False, False, 20)
    assert known.metadata["keys"] == "; ".join(f'{{"id":{i}}}' for i in range(SAMPLES))
    assert (anything.name, anything.passed, anything.metadata) == ("anything", True, {"rows": 0})
    assert (shipped.name, shipped.blocks, shipped.metadata["keys"]) == ("shipped_later", True, '{"id":20}')


def test_a_check_is_told_in_words() -> None:
    """The web UI shows the description beside the name."""
    of = contract(SHIPPED.model_copy(update={"severity": "warn"}), rules=(Rule(ge="a", severity="error"),))
    assert [(c.told.name, c.told.description, c.told.severity) for c in row_checks(of)] == [
        ("code_ge", "none of its values: code is not >= a", "error"),
        ("shipped_later", SHIPPED.expression, "warn"),
    ]


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("a >= b", None),
        ("a between b and 3 and not (b is null)", None),
        ("(a > 1)", None),
        ("len(list_filter([a, b], lambda x: x > a)) > 0", None),
        ("case when a > 0 then b > 0 else true end -- sold", None),
        ("a > ", "can't be read as DuckDB's SQL: Required keyword: 'expression' missing for GT"),
        ("a = b) or (true", "can't be read as DuckDB's SQL"),
        ("a = b, b = a", "can't be read as DuckDB's SQL"),
        ("a = b; drop table x", "must be one expression"),
        ("select a from x", "must be one expression"),
        ("a as b", "must be one expression"),
        ("a in (select 1)", "a subquery can't be used"),
        ("sum(a) > 1", "an aggregate can't be used"),
        ("row_number() over (order by a) > 1", "a window can't be used"),
        ("a > random()", "random isn't allowed"),
        ("t.a > 1", "'t.a' names a table"),
        ("a > c", "unknown column 'c'; valid: a, b"),
        ("1 = 1", "reads no column"),
    ],
)
def test_an_expression_judges_one_row_by_its_columns(expression: str, problem: str | None) -> None:
    """It is put into a statement of the platform: it must not reach out of its brackets."""
    found = list(expression_problems(expression, ("a", "b")))
    assert (found == []) if problem is None else any(problem in f for f in found), found
