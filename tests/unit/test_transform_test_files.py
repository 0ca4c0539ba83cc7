"""A file of a test that is wrong is an error with its line; a value is typed exactly or refused."""

from pathlib import Path
from typing import Any

import pytest

from etl_assets.transform_tests.cases import load_case, load_cases
from etl_assets.transform_tests.values import text_of, typed_value
from etl_resources.contract import ContractColumn
from etl_resources.errors import ManifestErrors, PermanentError
from tests.integration.example_tests import EXAMPLE, TEST, written

WRONG = {
    "unknown table": (
        "  silver.currency_rates: []",
        "  silver.rates: []",
        13,
        "gdp.gdp_sales doesn't read 'silver.rates'; did you mean",
    ),
    "unknown table of defaults": (
        "defaults:\n  silver.sales_lines",
        "defaults:\n  gdp.sales",
        3,
        "gdp.gdp_sales doesn't read 'gdp.sales'",
    ),
    "table that isn't given": (
        "  silver.sales_orders:\n",
        "  silver.orders:\n",
        5,
        "gdp.gdp_sales reads silver.sales_orders: give its rows, [] for none",
    ),
    "lookup that isn't given": (
        "  silver.currency_rates: []\n",
        "",
        5,
        "gdp.gdp_sales looks up silver.currency_rates: give its rows, [] for none",
    ),
    "lookup given twice": (
        "  silver.currency_rates: []",
        "  silver.currency_rates: []\n  lookup.currency_rates: []",
        14,
        "lookup.currency_rates is what is found in silver.currency_rates: give one of them",
    ),
    "unknown column": (
        "extended_price: 1}",
        "extended_prize: 1}",
        8,
        "unknown column 'extended_prize'; did you mean 'extended_price'?",
    ),
    "unknown column expected": ("net_amount: 10.10}", "net: 10.10}", 15, "unknown column 'net'; "),
    "a float's digits": (
        "extended_price: 1}",
        "extended_price: 1.005}",
        8,
        "extended_price: 1.005 doesn't fit into decimal(15,2)",
    ),
    "text for a number": (
        "order_id: 2, order_date: 2024-05-03, ext",
        "order_id: two, order_date: 2024-05-03, ext",
        8,
        "order_id: 'two' is not of type bigint",
    ),
    "no date": (
        "order_id: 2, order_date: 2024-05-03, ext",
        "order_id: 2, order_date: 2024-05-32, ext",
        8,
        "order_date: '2024-05-32' is not a date, e.g. 2024-01-31",
    ),
    "a row of another month": (
        "order_id: 2, order_date: 2024-05-03, ext",
        "order_id: 2, order_date: 2024-04-30, ext",
        8,
        "silver.sales_lines is read for 2024-05, this row is of 2024-04",
    ),
    "no month": ("partition: 2024-05\n", "", 1, "gdp.gdp_sales is made by months: add `partition: 2023-08`"),
    "no key": (
        "{order_id: 1, line_number: 1, net",
        "{order_id: 1, net",
        15,
        "line_number is missing: rows are found by their whole key",
    ),
    "the same key twice": (
        "rejected:",
        "  - {order_id: 1, line_number: 1}\nrejected:",
        16,
        "row 1 of expect has the same key",
    ),
    "a rejected row's key": (
        "key: {order_id: 2, line_number: 1}",
        "key: {order_id: 2, line_number: 1, status: O}",
        17,
        "'status' is not part of the key; valid: order_id, line_number",
    ),
    "an unknown field": ("expect:", "expected:", 14, "unknown key 'expected'; did you mean 'expect'?"),
    "a list as a value": (
        "status: O}\n  silver.customers",
        "status: [O]}\n  silver.customers",
        11,
        "status: a list is not of type string",
    ),
    "no YAML": ("given:\n", "given: [\n", 7, "not valid YAML"),
}


@pytest.mark.parametrize(("old", "new", "line", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_an_error_with_its_line(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    """A misspelt column that is ignored is a test that proves nothing."""
    assert old in TEST
    path = written(tmp_path, TEST.replace(old, new, 1))
    with pytest.raises(ManifestErrors) as raised:
        load_case(EXAMPLE, path)
    found = [(e.line, e.message) for e in raised.value.errors]
    assert any(at == line and text.startswith(message) for at, text in found), found


def test_a_table_without_partitions_has_no_month(tmp_path: Path) -> None:
    """There the field would mean nothing."""
    text = "partition: 2024-05\ngiven: {bronze.customers: []}\nexpect: []\n"
    with pytest.raises(ManifestErrors, match=r"a_test\.yaml:1: silver\.customers has no partitions: take it away"):
        load_case(EXAMPLE, written(tmp_path, text, "customers"))


def test_the_months_of_a_window_may_be_given_and_no_others(tmp_path: Path) -> None:
    """A run reads exactly them."""
    row = "{{month: {day}, customer_id: 1, orders: 1, last_order_date: {day}, net_revenue_eur: 1}}"
    text = f"partition: 2024-05\ngiven: {{{{gdp.gdp_customer_months: [{row}]}}}}\nexpect: []\n"
    load_case(EXAMPLE, written(tmp_path, text.format(day="2023-06-01"), "kpi_top_customers"))
    with pytest.raises(ManifestErrors, match=r"gdp\.gdp_customer_months is read for 2023-06 to 2024-05, .* of 2023-05"):
        load_case(EXAMPLE, written(tmp_path, text.format(day="2023-05-01"), "kpi_top_customers"))


VALUES = [
    ("bigint", 9223372036854775807, "9223372036854775807"),
    ("decimal(38,10)", "1234567890123456789012345678.0123456789", "1234567890123456789012345678.0123456789"),
    ("decimal(4,2)", 12, "12"),
    ("decimal(1,1)", "0.50", "0.50"),
    ("string", "0.50", "0.50"),
    ("boolean", True, "true"),
    ("date", "2024-02-29", "2024-02-29"),
    ("timestamptz", "2024-01-31T08:30:00+01:00", "2024-01-31T07:30:00+00:00"),
    ("int", None, "null"),
]
NO_VALUES: list[tuple[str, Any, str]] = [
    ("bigint", 9223372036854775808, "9223372036854775808 doesn't fit into bigint"),
    ("int", 2147483648, "2147483648 doesn't fit into int"),
    ("int", "1.0", "'1.0' is not of type int"),
    ("bigint", True, "true is not of type bigint"),
    ("decimal(4,2)", "123", r"123 doesn't fit into decimal\(4,2\)"),
    ("decimal(4,2)", "1e2", r"'1e2' is not of type decimal\(4,2\), e.g. 12.50"),
    ("decimal(4,2)", True, r"true is not of type decimal\(4,2\)"),
    ("string", 7, "7 is not of type string; put text in quotes"),
    ("boolean", "yes", "'yes' is not a boolean; valid: true, false"),
    ("date", 20240131, "20240131 is not a date"),
    ("timestamptz", "2024-01-31T08:30:00", "has no time zone: add Z or an offset"),
    ("timestamptz", "today", "'today' is not a timestamptz"),
]


@pytest.mark.parametrize(("kind", "value", "text"), VALUES, ids=[v[0] for v in VALUES])
def test_a_value_is_typed_exactly(kind: str, value: Any, text: str) -> None:
    """A digit that YAML or Python loses is a test of something else."""
    assert text_of(typed_value(ContractColumn("x", kind), value)) == text


@pytest.mark.parametrize(("kind", "value", "message"), NO_VALUES, ids=[f"{k} {v}" for k, v, _ in NO_VALUES])
def test_a_value_of_another_type_is_refused(kind: str, value: Any, message: str) -> None:
    """Nothing is rounded, cut or guessed."""
    with pytest.raises(ValueError, match=message):
        typed_value(ContractColumn("x", kind), value)


def test_an_unknown_dataset_suggests_the_near_one() -> None:
    """Nobody knows all names by heart."""
    with pytest.raises(PermanentError, match=r"Unknown dataset 'gdp_sale'; did you mean 'gdp_sales'\?"):
        load_cases(EXAMPLE, "gdp_sale")
