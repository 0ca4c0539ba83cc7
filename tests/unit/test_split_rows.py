"""Rows that Arrow hands over from its own threads."""

import sys
from types import FrameType, SimpleNamespace
from typing import Any

from etl_resources.extract.split_rows import WrongRows, told

ROWS = 100


def test_no_wrong_row_is_lost_while_others_are_taken() -> None:
    """Another thread hands one over before each instruction. A lost one would be in no count at all."""
    wrong, kept = WrongRows(), list[Any]()

    def keep_one_more() -> None:
        if len(kept) < ROWS:
            kept.append(SimpleNamespace(text=str(len(kept))))
            wrong.keep(kept[-1])

    def before_each_instruction(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code is not WrongRows.taken.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            keep_one_more()
        return before_each_instruction

    keep_one_more()
    tracing = sys.gettrace()
    sys.settrace(before_each_instruction)
    try:
        taken = list(wrong.taken())
    finally:
        sys.settrace(tracing)
    taken += wrong.taken()
    assert taken == [row.text for row in kept]


def test_an_error_about_a_row_doesnt_quote_it() -> None:
    """Logs are read by more people than the data."""
    message = told(ValueError("CSV parse error: Expected 2 columns, got 3: x,\ufffd,secret"))
    assert message == "a row has too many or too few values, and its text isn't UTF-8"
