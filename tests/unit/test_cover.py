"""What covers a value: the standard's HMAC, whatever the type, and nothing else that tells of it."""

import hashlib
import hmac
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest

from etl_resources.classify import classify
from etl_resources.contract import Contract, ContractColumn, Cover
from etl_resources.engines.embedded import connect_offline
from etl_resources.errors import PermanentError, SettingsError, TransientError
from etl_resources.extract.covered_rows import NOT_SHOWN, covered_rows
from etl_resources.quality.rules import rejection_reasons, typed_columns
from etl_resources.sensitive import HashKey, quoting_no_values, without_values

KEY = "correct horse battery staple, more than enough"
MICROS = int(datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=UTC).timestamp()) * 1_000_000 + 10


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect_offline() as opened:
        yield opened


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> HashKey:
    monkeypatch.setenv("A_KEY", KEY)
    return HashKey.of("env:A_KEY")


def column(mode: Any, kind: str) -> ContractColumn:
    return ContractColumn("v", "string" if mode == "hash" else kind, cover=Cover(mode, kind))


def covered(
    engine: duckdb.DuckDBPyConnection, value: str, engine_type: str, mode: str, kind: str, key: HashKey | None = None
) -> tuple[Any, list[str]]:
    """A value as bronze has it, and the reasons why its row is rejected."""
    contract = Contract((column(mode, kind),), ("v",), None)
    if key is not None:
        key.use(engine)
    rows, types = covered_rows("a", contract, f"(select {value}::{engine_type} as v)", {"v": engine_type})
    typed = ", ".join(typed_columns("a", contract, types))
    row = engine.execute(
        f"with typed as (select {typed}, _raw as _payload from {rows} as _raw) "
        f"select v, list_transform({rejection_reasons(contract, types)}, lambda x: x.reason) from typed"
    ).fetchone()
    assert row is not None
    return row


def standard(text: str, key: str = KEY) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("value", "engine_type", "kind", "text"),
    [
        ("'Müller '", "VARCHAR", "string", "Müller "),
        ("''", "VARCHAR", "string", ""),
        ("42", "BIGINT", "bigint", "42"),
        ("' +42 '", "VARCHAR", "bigint", "42"),
        ("42", "INTEGER", "bigint", "42"),
        ("5", "DECIMAL(18,2)", "decimal(18,2)", "5"),
        ("'-0.50'", "VARCHAR", "decimal(18,4)", "-0.5"),
        ("100", "DECIMAL(18,0)", "decimal(18,0)", "100"),
        ("'2024-05-06'", "DATE", "date", "2024-05-06"),
        ("'2024-5-6'", "VARCHAR", "date", "2024-05-06"),
        ("'2024-05-06T09:08:09.00001+02'", "VARCHAR", "timestamptz", str(MICROS)),
    ],
)
def test_equal_values_have_the_standards_hash(
    engine: duckdb.DuckDBPyConnection, key: HashKey, value: str, engine_type: str, kind: str, text: str
) -> None:
    """Whatever they came as: text of a file joins a number of a database."""
    assert covered(engine, value, engine_type, "hash", kind, key) == (standard(text), [])


def test_a_key_that_is_longer_than_a_block_is_hashed_first(
    engine: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As RFC 2104 says."""
    monkeypatch.setenv("LONG", "k" * 100)
    long = HashKey.of("env:LONG")
    assert covered(engine, "'a'", "VARCHAR", "hash", "string", long)[0] == standard("a", "k" * 100)


@pytest.mark.parametrize(
    ("value", "engine_type", "kind", "masked"),
    [
        ("'anything'", "VARCHAR", "string", "***"),
        ("'1957-03-17'", "DATE", "date", datetime(1957, 1, 1).date()),  # noqa: DTZ001  (a day has no zone)
        ("'1957-03-17'", "VARCHAR", "date", datetime(1957, 1, 1).date()),  # noqa: DTZ001
        ("'1957-03-17T10:00:00Z'", "VARCHAR", "timestamptz", datetime(1957, 1, 1, tzinfo=UTC)),
    ],
)
def test_masks_keep_the_type(
    engine: duckdb.DuckDBPyConnection, value: str, engine_type: str, kind: str, masked: Any
) -> None:
    """Of a date the year is left."""
    assert covered(engine, value, engine_type, "mask", kind) == (masked, [])


@pytest.mark.parametrize(
    ("mode", "kind"), [("hash", "bigint"), ("hash", "string"), ("mask", "date"), ("mask", "string")]
)
def test_null_stays_null(engine: duckdb.DuckDBPyConnection, key: HashKey, mode: str, kind: str) -> None:
    """A hash of nothing would be a value."""
    assert covered(engine, "null", "VARCHAR", mode, kind, key) == (None, [])


@pytest.mark.parametrize(("mode", "kind"), [("hash", "bigint"), ("hash", "date"), ("mask", "date")])
def test_what_is_of_another_type_is_rejected_and_not_told(
    engine: duckdb.DuckDBPyConnection, key: HashKey, mode: str, kind: str
) -> None:
    """Its row is a dead letter with the mask in its place."""
    value, reasons = covered(engine, "'n/a'", "VARCHAR", mode, kind, key)
    assert value in ("***", None)
    assert reasons == [f"v is not a {kind}"]


def test_without_the_key_nothing_is_hashed() -> None:
    """A null in place of each hash would be published as if nobody had a value."""
    with connect_offline() as engine, pytest.raises(duckdb.Error, match="no key for hashed columns"):
        covered(engine, "'a'", "VARCHAR", "hash", "string")


def test_text_that_is_no_row_is_told_by_its_length(engine: duckdb.DuckDBPyConnection) -> None:
    """It may hold any value."""
    contract, produced = Contract((column("mask", "string"),), ("v",), None), {"v": "VARCHAR", "_unreadable": "VARCHAR"}
    rows, _ = covered_rows("a", contract, "(select null::varchar as v, 'secret' as _unreadable)", produced)
    assert engine.execute(f"select _unreadable from {rows}").fetchall() == [(f"6 characters, {NOT_SHOWN}",)]


def test_keys_are_told_apart_and_not_shown(monkeypatch: pytest.MonkeyPatch, key: HashKey) -> None:
    """By a digest that is neither the key nor a hash of a value."""
    monkeypatch.setenv("OTHER", KEY + "!")
    assert key.identity != HashKey.of("env:OTHER").identity
    assert KEY not in repr(key)
    assert 0 < key.seed < 2**63


@pytest.mark.parametrize("text", ["", "short"])
def test_a_key_that_can_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Its name is told, its text isn't."""
    monkeypatch.setenv("A_KEY", text)
    with pytest.raises(SettingsError, match="A_KEY") as raised:
        HashKey.of("env:A_KEY")
    assert not text or text not in str(raised.value).replace("a short one", "")


def test_errors_keep_their_kind_and_lose_their_text() -> None:
    """A retry depends on the kind; the text may quote a value. So may the cause, which is cut off."""
    conversion = duckdb.ConversionException("Could not convert string 'secret' to INT64")
    told_as = r"Reading it: ConversionException\. What it says isn't shown"
    with pytest.raises(PermanentError, match=told_as) as raised, quoting_no_values("Reading it", sensitive=True):
        raise conversion
    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__
    lost = duckdb.IOException("Postgres: server closed the connection at 'secret'")
    assert isinstance(classify(lost), TransientError)
    told = without_values("Reading it", lost)
    assert isinstance(told, TransientError)
    assert "secret" not in str(told)
    with pytest.raises(duckdb.ConversionException), quoting_no_values("Reading it", sensitive=False):
        raise conversion
