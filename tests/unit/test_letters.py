"""What a dead letter is, how many are shown, and what must be recomputed for one that comes back."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import duckdb
import pytest

from etl_assets.graph.letters_shown import REASONS_SHOWN, letters_table
from etl_assets.letters.choice import Choice
from etl_assets.letters.dependants import RunRange, dependants, run_ranges, upstream_of
from etl_resources.calendar import WHOLE
from etl_resources.closure import Closure
from etl_resources.dead_letters.index import LetterFile, ReasonCount, WrittenLetters, printable
from etl_resources.dead_letters.letter import exact_value, letters_of_judged, payload_columns
from etl_resources.quality.rules import REASON
from tests.property.closure_model import LINES, MONTHS, NODES, ORDERS, RATES, Flow

GE = "{'rule': 'ge', 'column': 'amount', 'reason': 'amount is not >= 0'}"


@pytest.fixture
def engine() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def letter(engine: duckdb.DuckDBPyConnection, payload: str, key: str = "1", reasons: str = GE) -> dict[str, object]:
    """The letter of one row, given its payload and key as SQL."""
    engine.execute(
        f"create or replace table judged as select {key}::bigint as id, {payload} as _payload, [{reasons}]::{REASON}[] "
        "as _reasons union all select 2, null, []"
    )
    found = engine.execute(letters_of_judged("judged", ("id",), payload_columns(engine, "judged"), "bronze.t"))
    names = [d[0] for d in found.description or []]
    (row,) = found.fetchall()
    return dict(zip(names, row, strict=True))


def test_a_letter_is_the_same_wherever_its_row_lies_and_whichever_run_brought_it(
    engine: duckdb.DuckDBPyConnection,
) -> None:
    """Else a discard would not outlive the next delivery."""
    first = letter(engine, "{'id': 1, 'amount': -5, '_row': 3, 'meta_run_id': 'a'}")
    again = letter(engine, "{'id': 1, 'amount': -5, '_row': 9, 'meta_run_id': 'b'}")
    changed = letter(engine, "{'id': 1, 'amount': -6, '_row': 3, 'meta_run_id': 'a'}")
    ruled = letter(engine, "{'id': 1, 'amount': -5, '_row': 3, 'meta_run_id': 'a'}", reasons=GE.replace("ge", "gt"))
    assert first["letter"] == again["letter"]
    assert len({first["letter"], changed["letter"], ruled["letter"]}) == 3
    assert {x["row_id"] for x in (first, again, changed, ruled)} == {first["row_id"]}
    assert (first["source_row"], again["source_row"]) == (3, 9)


def test_a_row_without_a_whole_key_is_told_apart_by_its_payload(engine: duckdb.DuckDBPyConnection) -> None:
    """Two rows whose keys can't be read are two rows."""
    one, two = (letter(engine, f"{{'id': '{x}', 'amount': 1}}", key="null") for x in ("x", "y"))
    assert one["row_id"] != two["row_id"]


def test_a_letter_has_its_values_exactly(engine: duckdb.DuckDBPyConnection) -> None:
    """All digits, a NUL, what each rule found."""
    several = f"{GE}, {{'rule': 'not_null', 'column': 'name', 'reason': 'name is null'}}"
    payload = "{'id': 1, 'amount': -12345678901234567.89::decimal(19,2), 'name': null::varchar, 'text': 'a' || chr(0)}"
    found = letter(engine, payload, reasons=several)
    assert (found["rule"], found["column_name"], found["value"]) == ("ge", "amount", "-12345678901234567.89")
    assert found["reason"] == "amount is not >= 0; name is null"
    assert [(r["rule"], r["value"]) for r in json.loads(str(found["reasons"]))] == [
        ("ge", "-12345678901234567.89"), ("not_null", None),
    ]  # fmt: skip
    assert json.loads(str(found["payload"]))["text"] == "a\0"
    assert (found["key"], found["source"]) == ('{"id":1}', "bronze.t")


def test_numbers_are_read_from_a_payload_with_all_digits(engine: duckdb.DuckDBPyConnection) -> None:
    """A sum of money of 17 digits: the engine's JSON functions read a double. What only looks like it isn't taken."""
    engine.execute("""create table t as select unnest(['{"a":-12345678901234567.89,"b":1}', '{"b":2,"a":0.1}',
        '{"a":"12345678901234567.8","b":3}', '{"x":"\\"a\\":7,","a":null}', '{"x":1}']) as payload""")
    found = engine.execute(f"select {exact_value('a')} from t").fetchall()
    assert found == [("-12345678901234567.89",), ("0.1",), ("12345678901234567.8",), (None,), (None,)]
    engine.execute("""create table u as select '{"x":{"a":7},"a":8}' as payload""")
    with pytest.raises(duckdb.Error, match="no number that can be read exactly"):
        engine.execute(f"select {exact_value('a')} from u").fetchall()


def test_what_the_web_ui_shows_is_bounded_and_harmless() -> None:
    """A value may be megabytes, and anything may be in it."""
    now = datetime(2024, 1, 1, tzinfo=UTC)
    sample = json.dumps({"key": '{"id":1}', "value": "x|\n\0" + "y" * 10_000})
    reasons = [ReasonCount("ge", "amount", f"reason {n}", 1, now, now, sample) for n in range(50)]
    file = LetterFile("silver.t", "all", 1, "a", "r", "p", 50, "50-0")
    lines = letters_table(WrittenLetters(file, reasons)).splitlines()
    assert len(lines) == 2 + REASONS_SHOWN + 1
    assert max(map(len, lines)) < 500
    assert "x¦\\n\\x00yyy" in lines[2]
    assert "40 more reasons" in lines[-1]
    assert printable("ü\x1b[2J\u202e") == "ü\\x1b[2J\\u202e"


@pytest.fixture
def flow() -> Flow:
    """Everything is published."""
    made = Flow(dict.fromkeys(MONTHS, 1), dict.fromkeys(MONTHS, 1), {1: 1})
    made.run({n.name: n.partitions for n in NODES})
    return made


def test_what_depends_on_a_partition_is_its_months_windows_and_targets(flow: Flow) -> None:
    """Growth reads the month before, so that the next month's depends on this one; another input doesn't matter."""
    closure = flow.closure()
    january, february, march, _ = MONTHS
    found = dependants(closure, "silver.lines", {january})
    assert next(iter(found)) == "silver.lines"
    assert "silver.orders" not in found
    assert found["gdp.sales"] == found["postgres.revenue"] == {january}
    assert found["kpi.growth"] == found["postgres.growth"] == {january, february}
    assert found["kpi.trailing"] == {january, february, march}
    assert found["kpi.history"] == {WHOLE}
    assert dependants(closure, ORDERS, {january})[LINES] == {january}, "they are captured together"
    assert dependants(closure, RATES, {WHOLE})["gdp.sales"] == set(MONTHS)
    assert upstream_of(closure.nodes, "kpi.revenue") == {
        "gdp.sales", "silver.lines", "silver.orders", ORDERS, LINES, RATES, "silver.rates",
    }  # fmt: skip


def test_what_lacks_an_input_depends_on_nothing(flow: Flow) -> None:
    """A run of a month that nobody ever published would fail, and the replay with it."""
    *_, march, april = MONTHS
    for asset in ("silver.orders", "gdp.sales"):
        del flow.contents[asset, april]
    found = dependants(flow.closure(), RATES, {WHOLE})
    assert found["gdp.sales"] == set(MONTHS) - {april}
    assert found["kpi.growth"] == {*MONTHS} - {april}
    assert dependants(flow.closure(), "silver.lines", {march, april})["gdp.sales"] == {march}


def test_a_moved_row_brings_its_other_partition_along(flow: Flow) -> None:
    """A run refuses the month that a row came to without the month that it left."""
    january, february, *_ = MONTHS
    flow.orders |= {january: 3, february: 4}
    flow.run({ORDERS: MONTHS})
    exchanged = {ORDERS: [(january, flow.epoch, [february]), (february, flow.epoch, [january])]}
    seen = flow.closure()
    closure = Closure(list(seen.nodes.values()), replace(seen.state, exchanged=exchanged))
    assert dependants(closure, ORDERS, {january})["silver.orders"] == {january, february}


def test_runs_ask_of_each_table_its_partitions_and_no_others(flow: Flow) -> None:
    """Neighbouring months are one run; what has others of its own is run apart, in the order of the flow."""
    first, second, _, last = MONTHS
    needed = {"silver.lines": {first, second, last}, "gdp.sales": {last, first, second}, "kpi.history": {WHOLE}}
    both = ("silver.lines", "gdp.sales")
    assert run_ranges(flow.closure().nodes, needed) == [
        RunRange(both, [first, second]), RunRange(both, [last]), RunRange(("kpi.history",), [WHOLE]),
    ]  # fmt: skip


def test_a_range_of_months_holds_no_table_without_months() -> None:
    """A discard of one month must not reach letters that have none."""
    month = Choice(first="2024-01", last="2024-02")
    assert [month.partition_holds(p) for p in ("2023-12", "2024-02", "all")] == [False, True, False]
    assert [Choice(first="all", last="all").partition_holds(p) for p in ("2024-02", "all")] == [False, True]
    assert Choice().partition_holds("all")
