"""Tests of transforms as data: the example's pass and find mistakes."""

import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from etl_assets.project import ASSETS_FOLDER, Project, load_project
from etl_assets.transform_tests.cases import Case, load_case, load_cases
from etl_assets.transform_tests.run import CaseResult, run_cases
from tests.integration.example_tests import EXAMPLE, TEST, written


def run(case: Case) -> CaseResult:
    (result,) = run_cases([case])
    return result


def told(folder: Path, old: str, new: str) -> list[str]:
    """Lines that a person reads of the test with one edit."""
    assert old in TEST
    result = run(load_case(EXAMPLE, written(folder, TEST.replace(old, new))))
    return [line for difference in result.differences for line in difference.lines()]


CASES = load_cases(EXAMPLE)
COLUMNS = f"select {', '.join(EXAMPLE.tables['gdp.gdp_sales'].contract.names)}"


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_the_examples_transforms_do_what_is_expected(case: Case) -> None:
    """What a newcomer copies must be right."""
    assert run(case).differences == []


def test_every_dataset_of_the_example_with_sql_has_tests() -> None:
    """A transform without a test is changed by guessing."""
    made = {t.dataset.dataset for t in EXAMPLE.tables.values() if t.sql}
    assert {c.node.dataset.dataset for c in CASES} == made


MISTAKES = [
    ("gdp_sales", "round(extended_price * (1 - discount), 2) as", "trunc(extended_price * (1 - discount), 2) as"),
    ("gdp_sales", "net_cents * 2000000 + rate_millionths", "net_cents * 2000000"),
    ("gdp_sales", "case when o.currency = 'EUR' then 1::decimal(18, 6) else r.rate end", "r.rate"),
    ("gdp_sales", "left join silver.sales_orders", "join silver.sales_orders"),
    ("gdp_sales", " and r.order_date = o.order_date", ""),
    ("gdp_sales", " and c.order_date = o.order_date", ""),
    ("sales_orders", "upper(trim(status))", "trim(status)"),
    ("sales_lines", "trim(return_flag)", "return_flag"),
    ("customers", "upper(trim(nation))", "upper(nation)"),
    ("gdp_orders", "count(*) as lines", "1::bigint as lines"),
    ("customer_features", "order by valid_from desc", "order by valid_from"),
    ("customer_features", "left join totals", "join totals"),
    ("gdp_customer_months", "arg_max(o.order_id, (o.order_date, o.order_id))", "max(o.order_id)"),
    ("gdp_customer_months", "arg_max(o.nation, (o.order_date, o.order_id))", "arg_max(o.nation, o.order_id)"),
    ("kpi_top_customers", "last_order_date desc, last_order_id desc", "last_order_date, last_order_id"),
    ("kpi_net_revenue", "count(distinct order_id)", "count(*)"),
    ("kpi_net_revenue", "(cents * 2 + orders)", "(cents * 2)"),
    ("kpi_on_time_shipping", "ship_date <= commit_date", "ship_date < commit_date"),
    ("kpi_revenue_growth", "sign(change_cents) * ((abs(change_cents) * 20000", "((change_cents * 20000"),
    ("kpi_revenue_growth", "k.month < p.start_date", "k.month <= p.start_date"),
    ("kpi_top_customers", "net_revenue_eur desc, customer_id", "net_revenue_eur desc, customer_id desc"),
    ("kpi_top_customers", "rank <= 10", "rank <= 9"),
]


@pytest.mark.parametrize(("dataset", "old", "new"), MISTAKES, ids=[f"{d}: {o}" for d, o, _ in MISTAKES])
def test_a_mistake_in_the_examples_sql_fails_a_test(dataset: str, old: str, new: str) -> None:
    """Tests that pass whatever the SQL does are worth nothing."""
    cases = [c for c in CASES if c.node.dataset.dataset == dataset]
    sql = cases[0].node.sql or ""
    assert old in sql
    mistaken = replace(cases[0].node, sql=sql.replace(old, new, 1))
    assert any(not run(replace(case, node=mistaken)).passed for case in cases)


def test_every_kind_of_difference_is_told(tmp_path: Path) -> None:
    """A person must see which row, which column, what was expected and what came."""
    assert told(tmp_path, "10.10}\nrejected", "10.1}\nrejected") == []  # the same number
    assert told(tmp_path, "net_amount: 10.10}", "net_amount: 10.11, status: null}") == [
        "order_id 1, line_number 1: is different",
        "  net_amount  expected 10.11  got 10.10",
        "  status      expected null   got O",
    ]
    assert told(tmp_path, "{order_id: 1, line_number: 1, net", "{order_id: 7, line_number: 1, net")[0] == (
        "order_id 7, line_number 1: expected, but neither written nor rejected"
    )
    unexpected = told(tmp_path, "  - {order_id: 1, line_number: 1, net_amount: 10.10}\n", "  []\n")
    assert unexpected[0] == "order_id 1, line_number 1: written, but not expected"
    assert "  net_amount        expected no such row  got 10.10" in unexpected
    no_rate = "no exchange rate at most 10 days before the order"
    assert told(tmp_path, f"reason: {no_rate}", "reason: [no rate]") == [
        "order_id 2, line_number 1: rejected for another reason",
        f"  reason  expected no rate  got {no_rate}",
    ]
    as_rejected = "  - {key: {order_id: 2, line_number: 1}, reason: "
    assert told(tmp_path, f"rejected:\n{as_rejected}{no_rate}}}\n", "") == [
        f"order_id 2, line_number 1: rejected, but not expected to be: {no_rate}"
    ]
    assert told(tmp_path, "rejected:\n", f"rejected:\n{as_rejected.replace('2', '3')}x}}\n") == [
        "order_id 3, line_number 1: expected to be rejected (x), but is not"
    ]
    assert told(tmp_path, "rejected:", "  - {order_id: 2, line_number: 1}\nrejected:") == [
        f"order_id 2, line_number 1: expected, but rejected: {no_rate}"
    ]


def test_a_key_that_is_written_twice_fails_by_the_row_and_by_the_audit(tmp_path: Path) -> None:
    """The product would not publish it; comparing one of the two rows would hide it."""
    case = load_case(EXAMPLE, written(tmp_path, TEST))
    doubled = replace(case.node, sql=f"select * from ({case.node.sql}), range(2)".replace("select *", COLUMNS, 1))
    messages = [d.message for d in run(replace(case, node=doubled)).differences]
    assert messages[0] == "written 2 times"
    assert any(m.startswith("check rows_accounted") for m in messages)
    assert any(m.startswith("check unique_key") for m in messages)


def test_a_transform_that_fails_is_a_failed_test(tmp_path: Path) -> None:
    """The engine's error is the difference; the other tests go on."""
    case = load_case(EXAMPLE, written(tmp_path, TEST))
    wrong = (
        f"select * replace (('x' || order_id)::bigint as order_id) from ({(case.node.sql or '').rstrip().rstrip(';')})"
    )
    broken = replace(case, node=replace(case.node, sql=wrong))
    results = list(run_cases([broken, case]))
    assert [r.passed for r in results] == [False, True]
    assert results[0].differences[0].message.startswith("The transform failed: ")


def test_what_is_found_may_be_given_instead_of_where(tmp_path: Path) -> None:
    """A test of the SQL alone names the relation that the SQL reads."""
    text = TEST.replace(
        "silver.customers: [{customer_id: 1, valid_from: 2020-01-01,",
        "lookup.customers: [{customer_id: 1, order_date: 2024-05-03,",
    )
    assert run(load_case(EXAMPLE, written(tmp_path, text))).passed


def test_numbers_keep_their_digits_from_the_file_to_the_engine(tmp_path: Path) -> None:
    """0.1 + 0.2 of floats is not 0.3."""
    text = TEST.replace("extended_price: 10.10", "extended_price: 1234567890123.45").replace(
        "net_amount: 10.10", "net_amount: 1234567890123.45, gross_amount: 1234567890123.45"
    )
    case = load_case(EXAMPLE, written(tmp_path, text))
    assert case.expected[0]["net_amount"] == Decimal("1234567890123.45")
    assert run(case).passed


def test_tests_are_no_logic(tmp_path: Path) -> None:
    """A new test must not compute three years anew."""
    copy = tmp_path / "project"
    shutil.copytree(ASSETS_FOLDER, copy, ignore=shutil.ignore_patterns("tests", "*.py", "__pycache__"))
    without = load_project(copy)
    written(copy / "datasets", TEST)
    assert versions(load_project(copy)) == versions(without) == versions(EXAMPLE)


def versions(project: Project) -> dict[str, str]:
    return {t.name: t.logic_version for t in project.tables.values()}
