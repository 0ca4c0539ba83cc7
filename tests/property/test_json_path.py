"""JSON pages: what is read keeps its digits, what is kept reads back."""

import json

from hypothesis import given
from hypothesis import strategies as st

from etl_resources.json_path import json_text, parse_json, text_of


@given(st.decimals(allow_nan=False, allow_infinity=False).map(str).filter(lambda t: t[-1] != "." and "E" not in t))
def test_digits_are_those_that_were_sent(number: str) -> None:
    """1.10 and 1.1 are different texts, and 0.1 has no exact binary form."""
    assert text_of(parse_json(f'{{"n": {number}}}'.encode())["n"]) == number


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_json_text_reads_back(document: object) -> None:
    """What is kept of an unreadable row is what came."""
    assert json.loads(json_text(document)) == document
