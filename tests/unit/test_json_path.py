"""Paths into JSON pages: every row is found, digits stay, and what doesn't fit is told or kept, never skipped."""

import pytest

from etl_resources.json_path import JsonPath, PathError, parse_json


def walked(path: str, document: str) -> list[tuple[object, dict[str, str]]]:
    return [(f.value, dict(f.captured)) for f in JsonPath(path).walk(parse_json(document.encode()))]


@pytest.mark.parametrize(
    ("path", "document", "values"),
    [
        ("[]", "[1, 2]", ["1", "2"]),
        ("data[]", '{"data": [{"a": 1}, {"a": 2}]}', [{"a": "1"}, {"a": "2"}]),
        ("a.b[]", '{"a": {"b": ["x"]}}', ["x"]),
        ("a[].b[]", '{"a": [{"b": [1, 2]}, {"b": []}, {"b": [3]}]}', ["1", "2", "3"]),
        ("a[][]", '{"a": [[1], [2, 3]]}', ["1", "2", "3"]),
        ("data[]", '{"data": []}', []),
        ("a[].b[]", '{"a": [{"b": null}, {"b": [1]}]}', ["1"]),
    ],
)
def test_every_element_is_found(path: str, document: str, values: list[object]) -> None:
    """A shape that is walked wrongly loses rows without a word."""
    assert [value for value, _ in walked(path, document)] == values


def test_keys_of_mappings_are_captured() -> None:
    """The public rates service puts the date and the currency into keys."""
    document = '{"rates": {"2024-05-02": {"USD": 1.0695, "JPY": 166.20}, "2024-05-03": {"USD": 1.0744}}}'
    assert walked("rates.{rate_date}.{currency}", document) == [
        ("1.0695", {"rate_date": "2024-05-02", "currency": "USD"}),
        ("166.20", {"rate_date": "2024-05-02", "currency": "JPY"}),
        ("1.0744", {"rate_date": "2024-05-03", "currency": "USD"}),
    ]


@pytest.mark.parametrize(
    ("path", "document", "told"),
    [
        ("data[]", '{"error": "quota"}', "the document has no 'data'"),
        ("data[]", '{"data": {"a": 1}}', "data is not an array"),
        ("a.{day}", '{"a": [1]}', "a is not a mapping"),
        ("data[]", "[1]", "the document is not a mapping"),
        ("data[]", '{"data": null}', "data is null"),
        ("a.b[]", '{"a": null}', "a is null"),
    ],
)
def test_another_document_is_told(path: str, document: str, told: str) -> None:
    """An answer that says "quota" in its own words must not look like a page without rows."""
    with pytest.raises(PathError, match=told):
        walked(path, document)


def test_null_rows_are_empty_where_that_is_said() -> None:
    """Some services write an empty list so; a throttled one may mean that it has no answer now."""
    assert list(JsonPath("data[]").walk({"data": None}, null_is_empty=True)) == []
    with pytest.raises(PathError, match="has no 'data'"):
        list(JsonPath("data[]").walk({}, null_is_empty=True))


def test_an_element_of_another_form_is_kept_with_its_problem() -> None:
    """One bad element of a thousand must neither end the run nor vanish."""
    found = list(JsonPath("a[].b[]").walk(parse_json(b'{"a": [{"b": [1]}, {"c": 2}, 3, {"b": null}]}')))
    assert [(f.value, f.problem) for f in found] == [
        ("1", None),
        ({"c": "2"}, "a[] has no 'b'"),
        ("3", "a[] is not a mapping"),
    ]


def test_a_value_beside_the_rows_is_that_of_their_own_element() -> None:
    """Lines carry the number of the order that they lie in, not of the first one."""
    document = parse_json(
        b'{"of": "acme", "orders": [{"id": 7, "lines": [{"n": 1}, {"n": 2}]}, {"id": 8, "lines": [{"n": 1}]}]}'
    )
    rows = list(JsonPath("orders[].lines[]").walk(document))
    assert [JsonPath("$.orders[].id").value_beside(r) for r in rows] == ["7", "7", "8"]
    assert [JsonPath("$.of").value_beside(r) for r in rows] == ["acme"] * 3


@pytest.mark.parametrize("text", ["", "a..b", "a[", "a[0]", "{A}", "$", "a.", "a b"])
def test_what_is_no_path_is_refused(text: str) -> None:
    """The manifest is checked offline: not at night, at the first page."""
    with pytest.raises(ValueError, match="is not a path"):
        JsonPath(text).steps  # noqa: B018


@pytest.mark.parametrize("body", [b"<html>", b'{"a": NaN}', b'{"a": 1', b"\xff\xfe\x00", b""])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    """NaN is not JSON either, although Python reads it."""
    with pytest.raises(ValueError):
        parse_json(body)
