"""The content hash: blind to order, sensitive to everything else, equal to what its documentation says.

The reference is written from the docstring of etl_resources.quality.content_hash alone; the same hash in Postgres is
compared in tests/integration/test_content_hash_postgres.py.
"""

import hashlib
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_resources.contract import Contract, ContractColumn
from etl_resources.quality.content_hash import content_hash, row_text

TYPES = {
    "big": ("bigint", pa.int64()),
    "small": ("int", pa.int32()),
    "text": ("string", pa.string()),
    "day": ("date", pa.date32()),
    "stamp": ("timestamptz", pa.timestamp("us", tz="UTC")),
    "flag": ("boolean", pa.bool_()),
    "money": ("decimal(15,2)", pa.decimal128(15, 2)),
    "share": ("decimal(6,6)", pa.decimal128(6, 6)),
    "wide": ("decimal(38,10)", pa.decimal128(38, 10)),
    "whole": ("decimal(20,0)", pa.decimal128(20, 0)),
    "label": ("string", pa.string()),
}
CONTRACT = Contract(tuple(ContractColumn(n, t) for n, (t, _) in TYPES.items()), ("big",), "day")
REQUIRED = replace(CONTRACT, columns=tuple(replace(c, nullable=False) for c in CONTRACT.columns))
SCHEMA = pa.schema([(n, t) for n, (_, t) in TYPES.items()])
Row = tuple[Any, ...]


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    largest = 10**precision - 1
    return st.integers(-largest, largest).map(lambda n: Decimal(n).scaleb(-scale))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6) | st.sampled_from(
    ["", "-", "\x1f", "1:-", "\x1f1:a", "null", "日本", "🤦🏼‍♂️", "e\u0301", "é", "\\", "'", "a\r\n"]
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "big": st.integers(-(2**63), 2**63 - 1),
    "small": st.integers(-(2**31), 2**31 - 1),
    "text": TEXT,
    "day": st.dates(),
    "stamp": st.datetimes(timezones=st.just(UTC)),
    "flag": st.booleans(),
    "money": decimals(15, 2),
    "share": decimals(6, 6),
    "wide": st.integers(-(10**37), 10**37).map(lambda n: Decimal(n).scaleb(-10)),
    "whole": decimals(20, 0),
    "label": TEXT,
}
ROW = st.tuples(*(st.none() | v for v in VALUES.values()))
ROWS = st.lists(ROW, max_size=5)


def reference(rows: list[Row]) -> str:
    """Sum modulo 2^64 of the first 64 bits of md5 of each row's text, as 16 hex digits."""
    kinds = [kind for kind, _ in TYPES.values()]
    names = hashlib.md5("\x1f".join(TYPES).encode()).hexdigest()[:8]  # noqa: S324
    texts = ("\x1f".join([names, *map(_text, row, kinds)]) for row in rows)
    first_64_bits = (int.from_bytes(hashlib.md5(t.encode()).digest()[:8]) for t in texts)  # noqa: S324
    return f"{sum(first_64_bits) % 2**64:016x}"


def _text(value: Any, kind: str) -> str:
    if value is None:
        return "-"
    if kind == "string":
        return f"{len(value.encode())}:{value}"
    if kind == "boolean":
        return "true" if value else "false"
    if kind == "date":
        return str((value - date(1970, 1, 1)).days)
    if kind == "timestamptz":
        return str((value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
    if kind.startswith("decimal"):
        return f"{value:.{kind.rstrip(')').split(',')[1]}f}"
    return str(value)


class Engine:
    """DuckDB with one table of the contract."""

    def __init__(self) -> None:
        self._connection = duckdb.connect(config={"threads": 1})
        self._connection.execute("set timezone = 'America/New_York'")

    def hash_of(self, rows: list[Row], contract: Contract = CONTRACT) -> str:
        columns = zip(*rows, strict=True) if rows else [()] * len(TYPES)
        table = pa.table([pa.array(list(c), t) for c, t in zip(columns, SCHEMA.types, strict=True)], SCHEMA)
        self._connection.register("rows", table)
        found = self._connection.execute(f"select {content_hash(contract, 'duckdb')} from rows").fetchone()
        assert found is not None
        return str(found[0])


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@given(rows=ROWS)
@settings(max_examples=150, deadline=None)
def test_duckdb_gives_what_the_documentation_says(engine: Engine, rows: list[Row]) -> None:
    """Anyone can check a partition without our engine; a time zone of the session changes nothing."""
    assert engine.hash_of(rows) == reference(rows)


@given(rows=st.lists(st.tuples(*VALUES.values()), min_size=1, max_size=5), data=st.data())
@settings(max_examples=100, deadline=None)
def test_what_is_required_is_said_shorter_and_hashed_alike(
    engine: Engine, rows: list[Row], data: st.DataObject
) -> None:
    """A null that the audit would refuse is another content, too."""
    assert engine.hash_of(rows, REQUIRED) == reference(rows)
    place = data.draw(st.integers(0, len(TYPES) - 1))
    nulled = [(*rows[0][:place], None, *rows[0][place + 1 :]), *rows[1:]]
    assert engine.hash_of(nulled, REQUIRED) != reference(rows)


@given(rows=ROWS, shuffled=st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_does_not_matter(engine: Engine, rows: list[Row], shuffled: Any) -> None:
    """Parallel writers and compaction reorder rows; the version must stay."""
    other = list(rows)
    shuffled.shuffle(other)
    assert engine.hash_of(other) == engine.hash_of(rows)


@given(rows=st.lists(ROW, min_size=1, max_size=4), data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_single_change_changes_the_hash(engine: Engine, rows: list[Row], data: st.DataObject) -> None:
    """One value in one row: a change that isn't seen is never propagated."""
    at = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.sampled_from(list(TYPES)))
    place = list(TYPES).index(column)
    value = data.draw((st.none() | VALUES[column]).filter(lambda v: v != rows[at][place]))
    changed = [*rows]
    changed[at] = (*rows[at][:place], value, *rows[at][place + 1 :])
    assert engine.hash_of(changed) != engine.hash_of(rows)


@given(rows=ROWS, more=ROW)
@settings(max_examples=40, deadline=None)
def test_a_row_more_changes_the_hash(engine: Engine, rows: list[Row], more: Row) -> None:
    """Also a row that is there already: an xor would forget pairs."""
    assert len({engine.hash_of(rows), engine.hash_of([*rows, more]), engine.hash_of([*rows, more, more])}) == 3


@given(text=TEXT, label=TEXT)
@settings(deadline=None)
def test_what_moves_between_columns_changes_the_text(text: str, label: str) -> None:
    """('a', 'b␟1:c') and ('a␟1:b', 'c') differ because each text says its length."""
    pair = Contract((ContractColumn("t", "string"), ContractColumn("l", "string")), ("t",), "t")
    expression = row_text(pair, "duckdb")
    moved = [(text + "\x1f" + label, ""), ("", text + "\x1f" + label), (text + "\x1f", label), (text, "\x1f" + label)]
    texts = {
        duckdb.execute(f"select {expression} from (select ?::varchar as t, ?::varchar as l)", pair_of).fetchone()
        for pair_of in {*moved, (text, label)}
    }
    assert len(texts) == len({*moved, (text, label)})


def test_nothing_hashes_to_zeros(engine: Engine) -> None:
    """The version of an empty partition is the same everywhere, and known without reading it."""
    assert engine.hash_of([]) == "0" * 16


def test_another_name_is_another_content() -> None:
    """The same values under another name: who reads by name finds others, so nothing may be taken for unchanged."""
    texts = set[object]()
    for names in ("gross, net", "net, gross", "gross, paid"):
        first, second = names.split(", ")
        contract = Contract((ContractColumn(first, "int"), ContractColumn(second, "int")), (first,), None)
        texts.add(duckdb.execute(f"select {content_hash(contract, 'duckdb')} from (select 2, 1) t({names})").fetchone())
    assert len(texts) == 3


def test_a_column_that_nobody_declares_counts_where_it_has_a_value() -> None:
    """Partitions of before it existed keep their version; two that swap their values, or their names, don't."""
    declared = (ContractColumn("k", "int"),)
    added = [ContractColumn(n, "string", evolved=True) for n in ("a", "b")]

    def hash_of(columns: tuple[ContractColumn, ...], values: str) -> object:
        contract = Contract(columns, ("k",), None)
        rows = f"(select 1 as k, {values})"
        return duckdb.execute(f"select {content_hash(contract, 'duckdb')} from {rows}").fetchone()

    before = hash_of(declared, "null as a")
    assert hash_of((*declared, *added), "null::varchar as a, null::varchar as b") == before
    others = {hash_of((*declared, *added), v) for v in ("'x' as a, null::varchar as b", "null::varchar as a, 'x' as b")}
    assert len({before, *others}) == 3
    assert hash_of((*declared, *reversed(added)), "'x' as a, null::varchar as b") in others
