"""Rows as text: aligned for a person, exact for a script."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from etl_assets.cli.rows import write_csv, write_json, write_table

COLUMNS, TYPES = ("name", "amount"), ("VARCHAR", "DECIMAL(38,2)")


def test_numbers_stand_to_the_right_and_nulls_are_visible() -> None:
    out = io.StringIO()
    count = write_table(COLUMNS, TYPES, iter([("a", Decimal("1.50")), (None, Decimal("-20000.00")), ("é", None)]), out)
    assert count == 3
    assert out.getvalue().splitlines() == [
        "name     amount",
        "────  ─────────",
        "a          1.50",
        "NULL  -20000.00",
        "é          NULL",
    ]


def test_a_table_without_rows_still_has_its_heading() -> None:
    out = io.StringIO()
    assert write_table(COLUMNS, TYPES, iter([]), out) == 0
    assert out.getvalue().splitlines() == ["name  amount", "────  ──────"]


def test_a_line_break_in_a_value_does_not_break_the_table() -> None:
    out = io.StringIO()
    write_table(("a",), ("VARCHAR",), iter([("x\ny",)]), out)
    assert out.getvalue().splitlines()[2:] == ["x\\ny"]


def test_json_keeps_digits_and_is_json_for_every_value() -> None:
    """0.1 + 0.2 as doubles is the classic; NaN is what json.dumps writes although JSON has no such thing."""
    row = (Decimal("12345678901234567890.12"), 2**70, float("nan"), date(2024, 5, 1), None, [Decimal("0.10")],
           {"a": b"\x01"}, datetime(2024, 5, 1, 12, tzinfo=UTC), timedelta(days=1), True, Decimal("1E+3"))  # fmt: skip
    out = io.StringIO()
    write_json([f"c{i}" for i in range(len(row))], iter([row]), out)
    parsed = json.loads(out.getvalue(), parse_constant=lambda c: AssertionError(c))
    assert list(parsed.values()) == [
        "12345678901234567890.12", 2**70, "nan", "2024-05-01", None, ["0.10"], {"a": "01"},
        "2024-05-01 12:00:00+00:00", "1 day, 0:00:00", True, "1000",
    ]  # fmt: skip


def test_csv_reads_back_as_it_was() -> None:
    out = io.StringIO()
    write_csv(COLUMNS, iter([('a "quoted", b\nc', Decimal("1.50")), (None, None)]), out)
    assert list(csv.reader(io.StringIO(out.getvalue()))) == [["name", "amount"], ['a "quoted", b\nc', "1.50"], ["", ""]]


def test_rows_are_written_as_they_arrive() -> None:
    """A result may be larger than memory: after the rows that decide the widths, each is written before the next."""
    out = io.StringIO()
    seen: list[int] = []

    def rows() -> Iterator[tuple[int]]:
        for i in range(1_000):
            seen.append(out.getvalue().count("\n"))
            yield (i,)

    write_table(("i",), ("BIGINT",), rows(), out)
    assert seen[-1] == 2 + 999
    assert seen[199] == 0
