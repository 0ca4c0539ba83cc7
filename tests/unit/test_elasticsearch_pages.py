"""A page of documents becomes rows without a float on the way."""

import json
from decimal import Decimal
from typing import Any

import pytest

from etl_resources.contract import Contract, ContractColumn
from etl_resources.sinks.elasticsearch_pages import parse

TYPES = {
    "id": "bigint", "small": "int", "name": "string", "day": "date", "at": "timestamptz", "paid": "boolean",
    "amount": "decimal(38,2)",
}  # fmt: skip
CONTRACT = Contract(tuple(ContractColumn(n, t) for n, t in TYPES.items()), ("id",), None)
DOCUMENT = (
    '{"id":9007199254740993,"small":-3,"name":"a\\"b\\n\\u00e9","day":"2024-01-31","at":"2024-01-31T10:00:00.123456Z",'
    '"paid":true,"amount":123456789012345678901234567890.10}'
)


def answer(*documents: str) -> bytes:
    hits = [f'{{"_index":"i","_id":"k{n}","_score":null,"_source":{d},"sort":[{n}]}}' for n, d in enumerate(documents)]
    return f'{{"pit_id":"next","took":1,"hits":{{"max_score":null,"hits":[{",".join(hits)}]}}}}'.encode()


def first(*documents: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = parse(answer(*documents), CONTRACT).page.rows.to_pylist()
    return rows[0]


def test_values_have_the_types_of_the_contract_and_all_their_digits() -> None:
    """The server answers with the bytes that were sent; a cent of a sum of billions counts."""
    row = first(DOCUMENT)
    assert row["amount"] == Decimal("123456789012345678901234567890.10")
    assert (row["id"], row["small"], row["name"], row["paid"]) == (9007199254740993, -3, 'a"b\né', True)
    assert (row["day"], row["at"]) == ("2024-01-31", "2024-01-31T10:00:00.123456Z")


def test_what_a_document_lacks_or_has_besides_is_null_or_ignored() -> None:
    row = first('{"id":1,"name":null,"etl_epoch":7,"other":{"nested":[1.5]}}')
    assert row == {**dict.fromkeys(TYPES), "id": 1}


@pytest.mark.parametrize(
    "changed", [{"amount": 1.005}, {"id": "seven"}, {"paid": "yes"}, {"name": 5}, {"name": "\ud800"}], ids=str
)
def test_a_page_with_a_value_of_another_type_is_read_as_text(changed: dict[str, Any]) -> None:
    """Somebody wrote it beside the platform: what it is decides the engine's cast, for each value as for any other."""
    odd = json.dumps({**json.loads(DOCUMENT, parse_float=str), **changed})
    (column,) = changed
    page = parse(answer(DOCUMENT, odd), CONTRACT).page
    assert page.rows["amount"][0].as_py() == "123456789012345678901234567890.10"
    assert str(page.rows["id"][0].as_py()) == "9007199254740993"
    if column != "name":
        assert page.rows[column][1].as_py() == str(changed[column])


def test_the_next_page_begins_behind_the_last_document() -> None:
    found = parse(answer(DOCUMENT, DOCUMENT), None)
    assert (found.point_in_time, found.last, found.page.ids.to_pylist()) == ("next", [1], ["k0", "k1"])
    assert parse(answer(), CONTRACT).last == []
