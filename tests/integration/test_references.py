"""References: a row whose key isn't in the other table is rejected; what a partition depends on are its keys alone."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from etl_assets.project import load_project
from etl_assets.project_binding import binding_errors
from etl_resources.contract import Contract, ContractColumn, ContractReference
from etl_resources.lookups import reference_table
from etl_resources.manifest_tables import Reference
from etl_resources.quality.row_checks import audit_rows
from etl_resources.quality.rules import rejection_reasons, typed_columns
from etl_resources.quality.second_judge import read_again
from tests.integration.lookups_project import write_lookups
from tests.unit.project_edits import edit, line_of, prove_told

ORDERS = "(values (1, 'EUR', 1), (2, 'USD', 1), (3, null, 1), (4, 'USD', 2)) as v(id, code, part)"
CODES = Contract((ContractColumn("code", "string"), ContractColumn("part", "int")), ("code", "part"), None)
COLUMNS = (ContractColumn("id", "int"), ContractColumn("code", "string"), ContractColumn("part", "int"))


@pytest.fixture
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    connection.execute("create schema lookup")
    connection.execute(f"create view orders as from {ORDERS}")
    know(connection, "('EUR', 1), ('EUR', 1), ('USD', 1), ('CHF', 7)")
    yield connection
    connection.close()


def know(engine: duckdb.DuckDBPyConnection, codes: str) -> None:
    engine.execute(f"create or replace view codes as from (values {codes}) as v(code, part)")


def version(engine: duckdb.DuckDBPyConnection, *on: str) -> str:
    """Of the keys that orders refer to; the relation becomes lookup.codes."""
    of = Contract(COLUMNS, ("id",), None)
    reference = reference_table("silver.codes", "orders", Reference(on={c: c for c in on}), of, CODES)
    engine.execute(f"create or replace view lookup.codes as from {reference.relation('main.orders', 'main.codes')}")
    return reference.version(engine, "main.orders", "main.codes")


def contract(*on: str, severity: str = "reject") -> Contract:
    reference = ContractReference("silver.codes", on, "unknown code", severity)  # type: ignore[arg-type]
    return Contract(COLUMNS, ("id",), None, references=(reference,))


def rejected(engine: duckdb.DuckDBPyConnection, of: Contract, sql: str = "from orders") -> dict[int, tuple[str, ...]]:
    engine.execute(f"create or replace temp table produced as {sql}")
    produced = {n: t for n, t, *_ in engine.execute("describe produced").fetchall()}
    found = engine.execute(
        f"with typed as (select {', '.join(typed_columns('t', of, produced))}, _raw as _payload from produced as _raw) "
        f"select id, {rejection_reasons(of, produced)} from typed order by id"
    ).fetchall()
    return {i: (why[0]["rule"], why[0]["column"], why[0]["reason"]) for i, why in found if why}


def test_a_key_that_is_not_there_rejects_and_a_null_passes(engine: duckdb.DuckDBPyConnection) -> None:
    """Several rows of a key don't multiply; of two columns both must be there together."""
    version(engine, "code", "part")
    of = contract("code", "part")
    assert rejected(engine, of) == {4: ("references:silver.codes", None, "unknown code")}
    assert read_again(engine, of, "(from orders where id < 4)")[1].passed
    assert read_again(engine, of, "orders")[1].metadata["broken"] == "references:silver.codes (1)"

    know(engine, "('EUR', 1)")
    version(engine, "code")
    assert rejected(engine, contract("code")) == dict.fromkeys(
        (2, 4), ("references:silver.codes", "code", "unknown code")
    )
    assert read_again(engine, contract("code"), "orders")[1].metadata["broken"] == "references:silver.codes (2)"


def test_a_reference_that_warns_counts_the_rows(engine: duckdb.DuckDBPyConnection) -> None:
    """As rules do."""
    version(engine, "code", "part")
    of = contract("code", "part", severity="warn")
    assert rejected(engine, of) == {}
    (found,) = audit_rows(engine, of, "orders")
    assert (found.name, found.passed, found.blocks) == ("references_silver_codes", False, False)
    assert found.metadata == {"rows": 1, "keys": '{"id":4}'}


def test_only_the_keys_of_the_rows_decide_the_version(engine: duckdb.DuckDBPyConnection) -> None:
    """A key that nobody holds, or another row of a known one, recomputes nothing; the one that was missed does."""
    first = version(engine, "code", "part")
    engine.execute(
        "create or replace view codes as select * from (values ('EUR', 1), ('USD', 1), ('GBP', 9)) as v(code, part)"
    )
    assert version(engine, "code", "part") == first
    engine.execute(
        "create or replace view codes as select * from (values ('EUR', 1), ('USD', 1), ('USD', 2)) as v(code, part)"
    )
    assert version(engine, "code", "part") != first
    assert rejected(engine, contract("code", "part")) == {}


def test_a_key_that_the_transform_changed_is_an_error_and_not_a_miss(engine: duckdb.DuckDBPyConnection) -> None:
    """It was never looked up: to reject the row would be a wrong accusation."""
    version(engine, "code")
    with pytest.raises(duckdb.Error, match=r"code changed in the transform, .* in silver\.codes: eur"):
        rejected(engine, contract("code"), "select id, lower(code) as code, part from orders")


ORDERS_FILE, SALES_FILE = "datasets/orders/manifest.yaml", "datasets/sales/manifest.yaml"
KEY, AT = "  key: [order_id]\n  columns:", "    silver.rates: {on: "
REFERENCES = "  key: [order_id]\n  references:\n    {}: {{on: {{{}}}{}}}\n  columns:"


def declared(table: str = "silver.rates", on: str = "currency: code", more: str = "") -> str:
    return REFERENCES.format(table, on, more)


# fmt: off
# file, from, to, the text on whose line the error is, the message
CASES = {
    "unknown table": (
        ORDERS_FILE, KEY, declared("silver.rate"), "    silver.rate: ", "may not refer to 'silver.rate'; did you mean",
    ),
    "a later layer": (
        ORDERS_FILE, KEY, declared("gdp.sales"), "    gdp.sales: ", "silver.orders may not refer to 'gdp.sales'",
    ),
    "with partitions": (
        ORDERS_FILE, KEY, declared("silver.lines", "order_id: order_id"), "    silver.lines: ",
        "silver.lines has partitions: rows refer to a table without",
    ),
    "its own column": (
        ORDERS_FILE, KEY, declared(on="currenc: code"), AT,
        "on 'currenc' is not a column of bronze.orders, from which it must come unchanged; did you mean 'currency'?",
    ),
    "the other column": (
        ORDERS_FILE, KEY, declared(on="currency: cod"), AT, "on 'cod' is not a column of silver.rates; did you mean",
    ),
    "types": (
        ORDERS_FILE, KEY, declared(on="order_id: code"), AT,
        "on 'order_id' is a bigint in bronze.orders, a bigint here, 'code' of silver.rates a string: they must be",
    ),
    "from": (
        ORDERS_FILE, KEY, declared(more=", from: bronze.lines"), AT,
        "from 'bronze.lines' is not an input that the SQL reads for the same period and partitions: whose rows hold "
        "the key; did you",
    ),
    "looked up as well": (
        SALES_FILE, "  lookups:", "  references:\n    silver.rates: {on: {currency: code}}\n  lookups:",
        AT, "silver.rates is looked up already, and null where nothing is found: make a column that is taken",
    ),
}
# fmt: on


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_reference_that_cannot_be_followed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str, str, str]
) -> None:
    """With file, line and what to write."""
    monkeypatch.chdir(write_lookups(tmp_path / "project"))
    prove_told(Path(), *case)


def test_a_reference_is_a_dependency(tmp_path: Path) -> None:
    """The flow computes the other table first, and the graph shows why."""
    root = write_lookups(tmp_path / "project")
    edit(root / ORDERS_FILE, KEY, declared(more=", severity: warn"))
    assert line_of(root / ORDERS_FILE, AT)
    project = load_project(root)
    orders = project.tables["silver.orders"]
    assert orders.upstream == ("bronze.orders", "silver.rates")
    assert list(project.tables).index("silver.rates") < list(project.tables).index("silver.orders")
    assert list(binding_errors(project)) == []
