"""Files as nobody ordered them: published good rows and explained dead letters, or a refusal that changes nothing."""

import gzip
import json
import zlib
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from etl_assets.cli.dead_letters import commands
from tests.crm import BRONZE, MONTH, CrmLake, crm_lake
from tests.crm import customer as c

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def crm(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrmLake]:
    """A file, published. The tests deliver another one beside it."""
    with crm_lake(tmp_path_factory.mktemp("crm")) as made:
        made.drop("a.jsonl.gz", [c(1), c(2)])
        assert made.run() == "published"
        yield made


def longer_than_memory_should_be() -> bytes:
    """A line of 100 MB, packed."""
    packer = zlib.compressobj(1, wbits=31)
    parts = [packer.compress(b'{"customer_id":3,"name":"'), *(packer.compress(b"x" * 10**6) for _ in range(100))]
    return b"".join(parts) + packer.compress(b'"}\n') + packer.flush()


def packed(*lines: object) -> bytes:
    return gzip.compress("".join(f"{json.dumps(line)}\n" for line in lines).encode())


REFUSED = {
    "a damaged gzip": (packed(*map(c, range(3, 900)))[:-400], "can't be read as json_lines"),
    "no gzip": (b"customer_id;name\n3;x\n", "can't be read as json_lines"),
    "another encoding": (gzip.compress('{"customer_id": 3, "name": "Müller"}\n'.encode("latin-1")), "isn't UTF-8"),
    "UTF-16": (gzip.compress(json.dumps(c(3)).encode("utf-16")), "isn't UTF-8"),
    "a line of 100 MB": (longer_than_memory_should_be(), "a row has more than 8 MB"),
    "a key twice": (packed(c(3), c(3, 5)), "unique_key: rows 4, keys 3"),
    "a key of another file": (packed(c(2, 5)), "unique_key: rows 3, keys 2"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cant_be_read_or_told_apart_changes_nothing(crm: CrmLake, body: bytes, told: str) -> None:
    """It is refused with its reason; without it, the published delivery is what it was."""
    before = crm.published()
    crm.put("b.jsonl.gz", body)
    try:
        run = crm.lake.materialize(MONTH)
    finally:
        crm.remove("b.jsonl.gz")

    assert not run.success
    assert told in run.error
    assert crm.published() == crm.served() == before
    assert crm.dead_letters() == []
    assert crm.run() == "pruned"


def test_a_nul_is_kept_as_it_came_and_told_where_it_can_t_be(crm: CrmLake) -> None:
    """A letter has it, exactly, and shows it written out; Postgres can't keep one: what is served stays, with the row
    and what to do told. Nothing crashes, and the next delivery is published."""
    before = crm.served()
    crm.drop("b.jsonl.gz", [{**c(3, "1\x002"), "name": "a\x00b"}, {**c(4), "name": "x\x00y"}])

    run = crm.lake.materialize(MONTH)

    assert not run.success
    assert 'column name of the row with key {"customer_id":4} has a NUL character' in run.error
    assert (len(crm.published()), crm.served()) == (3, before)
    ((value, payload),) = crm.lake.dead_letters("value, payload")
    assert value == "1\x002"
    assert json.loads(payload)["name"] == "a\x00b"
    with crm.lake.environment():
        shown = [CliRunner().invoke(commands, [verb]).output for verb in ("show", "list")]
    assert all("1\\x002" in text and "\x00" not in text for text in shown), shown
    crm.remove("b.jsonl.gz")
    assert crm.run() == "published"
    assert crm.served() == before


def test_good_rows_of_a_bad_file_are_published_and_the_others_explained(crm: CrmLake) -> None:
    """A cut line, an object nested too deeply, half a character, 5,000 columns."""
    crm.drop("b.jsonl.gz", [
        {**c(3), **{f"column_{i}": "x" * 20 for i in range(5000)}},
        json.dumps(c(4))[:-9],
        f'{{"customer_id": 5, "balance": 12345678901234567.89, "name": {"[" * 5000}{"]" * 5000}}}',
        '{"customer_id": 6, "name": "\\ud83d", "since": "2024-01-31", "balance": 1}',
        {**c(8), "balance": "1.50"},
    ])  # fmt: skip

    assert crm.run() == "published"

    assert [row[0] for row in crm.published()] == [1, 2, 3, 8]
    assert crm.served() == crm.published()
    file = "customers/b.jsonl.gz"
    assert crm.dead_letters() == [("is not a row that can be read", file)] * 3
    assert crm.lake.platform(
        "select (counts ->> 'read')::int, rows from etl.current_versions where asset = %s", BRONZE.replace("/", ".")
    ) == [(7, 4)]
    crm.remove("b.jsonl.gz")
    assert crm.run() == "published"
    assert crm.dead_letters() == []
