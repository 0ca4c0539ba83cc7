"""The second judge: pandera lets through what the SQL rules let through, and nothing else."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl_resources.contract import Contract, ContractColumn
from etl_resources.manifest_columns import Length, RowRule, Rule
from etl_resources.quality import second_judge
from etl_resources.quality.audit import read_back
from etl_resources.quality.pandera_schema import promises
from etl_resources.quality.rules import rejection_reasons, typed_columns
from etl_resources.quality.second_judge import read_again
from etl_resources.tables.schema import duckdb_type

ENGINE = duckdb.connect()
ENGINE.execute("set timezone = 'UTC'")
PATTERNS = (
    r"[A-Z]{3}",
    r"\d+",
    r"[\d.]*",
    r"\D*",
    r"[^\d]+",
    r"\w+",
    r"\S*\s?",
    "a|bc",
    ".*",
    r"\.",
    r"(?i)abc",
    "ä?.",
)
NUMBERS = ("0", "0.004", "0.005", "-1", "99.99", "1000", "0.0050000001")
BOUNDS: tuple[tuple[str, str], ...] = (("ge", "lt"), ("le", "gt"))
RULES: dict[str, tuple[Rule, ...]] = {
    "bigint": (Rule(ge=0), Rule(gt=2**53), Rule(le=-3), Rule(lt=7), Rule(isin=(1, 2**53 + 1))),
    "int": (Rule(ge=-2, le=2), Rule(isin=(0,))),
    "decimal(15,2)": (*(Rule(**{k: "0.004", j: n}) for k, j in BOUNDS for n in NUMBERS), Rule(isin=NUMBERS)),
    "decimal(38,10)": (*(Rule(**{k: n, j: "99"}) for k, j in BOUNDS for n in NUMBERS), Rule(isin=NUMBERS)),
    "date": (Rule(ge="2024-02-29"), Rule(lt="0001-01-02"), Rule(isin=("9999-12-31",))),
    "timestamptz": (Rule(gt="2024-02-29T10:00:00+02:00"), Rule(le="2024-02-29 08:00:00+00:00")),
    "string": (
        *(Rule(matches=p) for p in PATTERNS),
        Rule(length=Length(ge=1, le=2)),
        Rule(isin=("", "ä", "it's")),
        Rule(ge="a"),
    ),
}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bigint": st.integers(-(2**63), 2**63 - 1) | st.integers(-4, 8) | st.integers(2**53 - 2, 2**53 + 2),
    "int": st.integers(-3, 3),
    "decimal(15,2)": st.decimals(-(10**13) + 1, 10**13 - 1, places=2)
    | st.sampled_from([Decimal("0.00"), Decimal("99.99")]),
    "decimal(38,10)": st.decimals(-(10**27), 10**27, places=10)
    | st.sampled_from([Decimal("0.005"), Decimal("0.0050000001")]),
    "date": st.dates() | st.sampled_from([date(2024, 2, 29), date(1, 1, 1), date(9999, 12, 31)]),
    "timestamptz": st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
    | st.just(datetime(2024, 2, 29, 8, tzinfo=UTC)),
    "string": st.text(max_size=4) | st.text("abcABCä1.9٣ \t\n", max_size=4) | st.sampled_from(["ABC", "it's", "ä"]),
}


def one_column(kind: str, rules: tuple[Rule, ...], nullable: bool = True) -> Contract:
    return Contract((ContractColumn("x", kind, nullable, rules=rules),), ("x",), None)


def table_of(kind: str, values: list[Any]) -> str:
    types = {"bigint": pa.int64(), "int": pa.int32(), "date": pa.date32(), "string": pa.string(),
             "timestamptz": pa.timestamp("us", "UTC"), "decimal(15,2)": pa.decimal128(15, 2),
             "decimal(38,10)": pa.decimal128(38, 10)}  # fmt: skip
    ENGINE.register("given", pa.table({"x": pa.array(values, types[kind])}))
    ENGINE.execute(f"create or replace temp table written as select x::{duckdb_type(kind)} as x from given")
    return "written"


@pytest.mark.parametrize(("kind", "rule"), [(k, r) for k, rules in RULES.items() for r in rules], ids=str)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_both_judges_agree_on_every_value(kind: str, rule: Rule, data: st.DataObject) -> None:
    """A second judge that is stricter would hold good data back; one that is laxer would be no judge."""
    import polars as pl

    contract = one_column(kind, (rule,))
    table = table_of(kind, data.draw(st.lists(VALUES[kind] | st.none(), min_size=1, max_size=20)))
    produced = {n: t for n, t, *_ in ENGINE.execute(f"describe {table}").fetchall()}
    first = ENGINE.execute(
        f"with typed as (select {', '.join(typed_columns('t', contract, produced))}, _raw as _payload from {table} "
        f"as _raw) select x, len({rejection_reasons(contract, produced)}) = 0 as kept from typed"
    )
    frame = pl.from_arrow(first.to_arrow_table())
    assert isinstance(frame, pl.DataFrame)
    second = frame.select(pl.all_horizontal([keeps for _, keeps in promises(contract)]).alias("kept"))
    assert frame["kept"].to_list() == second["kept"].to_list(), frame["x"].to_list()


def test_a_broken_promise_is_named_and_counted_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come in batches; what is told is of all of them, and never a value of a row."""
    monkeypatch.setattr(second_judge, "BATCH_ROWS", 2)
    contract = Contract(
        (
            ContractColumn("x", "int", nullable=False, rules=(Rule(ge=0), Rule(le=9, severity="warn"))),
            ContractColumn("s", "string", rules=(Rule(length=Length(ge=1, le=2)),)),
        ),
        ("x",),
        None,
        (RowRule(name="both", expression="s is not null or x > 5 -- or so"),),
    )
    rows = ("(7, 'a')", "(10, 'b')", "(-1, 'abc')", "(null, '')", "(-2, null)", "(3, null)", "(6, null)")
    found = read_again(ENGINE, contract, f"(select x::int as x, s from (values {', '.join(rows)}) as v(x, s))")[1]
    assert found.blocks
    assert found.metadata["rows"] == 7
    assert set(found.metadata["broken"].split("; ")) == {"x ge (2)", "x not_null (1)", "s length (2)", "both (2)"}
    assert read_again(ENGINE, contract, "(select 7::int as x, 'a' as s)")[1].passed
    assert read_again(ENGINE, contract, "(select 7::int as x, 'a' as s where false)")[1].passed


@example([(None, "a")], (), ("x",))
@given(
    st.lists(st.tuples(st.one_of(st.none(), st.integers(-3, 3)), st.sampled_from([None, "", "a", "é"])), max_size=9),
    st.sampled_from([(), ("x",), ("x", "s")]),
    st.sampled_from([("x", "s"), ("x",), ("s",)]),
)
def test_what_is_read_again_is_what_sql_finds(
    rows: list[tuple[int | None, str | None]], sort: tuple[str, ...], key: tuple[str, ...]
) -> None:
    """Rows, distinct keys, content and the engine's hash: of keys in order, out of order, repeated and missing."""
    contract = Contract((ContractColumn("x", "int"), ContractColumn("s", "string")), key, None)
    ENGINE.execute("create or replace temp table written (x int, s varchar)")
    if rows:
        ENGINE.executemany("insert into written values (?, ?)", rows)
    order = f"order by {', '.join(sort)}" if sort else ""
    scan = f"(from written {order})"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(second_judge, "BATCH_ROWS", 2)
        assert read_again(ENGINE, contract, scan)[0] == read_back(ENGINE, contract, "written")


def test_a_column_of_another_type_is_told() -> None:
    """Whoever wrote it: files of another schema must not pass."""
    found = read_again(ENGINE, one_column("int", (Rule(ge=0),)), "(select 7::bigint as x)")[1]
    assert found.blocks
    assert "expected column 'x' to have type Int32" in found.metadata["broken"]


def test_the_environment_cannot_switch_the_judge_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """PANDERA_VALIDATION_ENABLED=False of another program must not let bad rows through."""
    from pandera.config import CONFIG

    monkeypatch.setattr(CONFIG, "validation_enabled", False)
    assert read_again(ENGINE, one_column("int", (Rule(ge=0),)), "(select -1::int as x)")[1].blocks
