"""Files of a source system: which objects count, what tells a change, that they land whole and once, and their rows."""

import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_resources.errors import PermanentError, RestartError, SettingsError, TransientError
from etl_resources.extract import landing, source_bucket
from etl_resources.extract.s3_files import S3Files
from etl_resources.extract.source_bucket import SourceBucket
from etl_resources.settings import load_settings
from tests.integration.files_source import Crm, read

pytest_plugins = ["tests.integration.files_source"]
pytestmark = pytest.mark.timeout(300)


def lines(first: int, count: int) -> str:
    rows = ({"customer_id": i, "name": f"Customer {i}", "balance": i / 4} for i in range(first, first + count))
    return "".join(json.dumps(row) + "\n" for row in rows)


def fingerprint(source: S3Files, crm: Crm) -> str:
    return source.observe(crm.zone()).fingerprint


def test_what_isnt_finished_doesnt_count(crm: Crm) -> None:
    """Half a delivery must not become a table: hidden and temporary names, placeholders and open uploads are left."""
    crm.put("customers/a.jsonl.gz", lines(0, 3))
    crm.put("customers/", b"")
    for name in ("_tmp/b", ".b", "b.tmp", "b.part", "deep/b", "empty"):
        crm.put(f"customers/{name}.jsonl.gz", b"" if name == "empty" else lines(100, 1))
    crm.put("customers/c.jsonl.gz.tmp", lines(200, 1))
    crm.client.create_multipart_upload(Bucket=crm.bucket, Key="customers/d.jsonl.gz")

    rows, _ = read(crm.files(), crm.zone(), "customer_id")

    assert {r[0] for r in rows} == {"0", "1", "2", "100"}, "b.tmp.jsonl.gz and b.part.jsonl.gz end as finished files do"


def test_every_change_of_the_objects_changes_the_fingerprint(crm: Crm) -> None:
    """An object that is added, replaced or removed; writing the same bytes again is no change."""
    source = crm.files()
    crm.put("customers/a.jsonl.gz", gzip.compress(lines(0, 3).encode(), mtime=0))
    first = fingerprint(source, crm)
    crm.put("customers/a.jsonl.gz", gzip.compress(lines(0, 3).encode(), mtime=0))
    assert fingerprint(source, crm) == first
    crm.put("customers/b.jsonl.gz", lines(3, 1))
    second = fingerprint(source, crm)
    crm.put("customers/b.jsonl.gz", lines(3, 2))
    third = fingerprint(source, crm)
    crm.delete("customers/b.jsonl.gz")

    assert fingerprint(source, crm) == first
    assert len({first, second, third}) == 3


def test_a_bucket_with_versions_is_read_at_the_listed_version(crm: Crm) -> None:
    """An object that is replaced after it was listed doesn't matter then: its version is still there."""
    crm.client.put_bucket_versioning(Bucket=crm.bucket, VersioningConfiguration={"Status": "Enabled"})
    crm.put("customers/a.jsonl.gz", lines(0, 1))
    crm.put("customers/a.jsonl.gz", lines(0, 2))
    zone = crm.zone()
    delivery = crm.files().observe(zone)
    crm.put("customers/a.jsonl.gz", lines(0, 3))

    (landed,) = delivery.land(zone)

    assert gzip.decompress(crm.store.read(landed.path)).decode() == lines(0, 2)


@pytest.mark.parametrize("versioning", ["Suspended", "Enabled"])
def test_a_listing_of_many_pages_is_complete(crm: Crm, versioning: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 lists a thousand objects at a time; here three."""
    monkeypatch.setattr(source_bucket, "LISTED_AT_ONCE", 3)
    crm.client.put_bucket_versioning(Bucket=crm.bucket, VersioningConfiguration={"Status": versioning})
    for i in range(10):
        crm.put(f"customers/{i}.jsonl.gz", b"x")

    assert fingerprint(crm.files(), crm).startswith("files:10:")


def test_nothing_is_an_error(crm: Crm) -> None:
    """A mistyped prefix must not empty the table."""
    with pytest.raises(PermanentError, match=r"No object of s3://crm-.*/customers/\*.jsonl.gz counts"):
        crm.files().observe(crm.zone())


def test_a_delivery_that_is_still_written_is_not_read(crm: Crm) -> None:
    """With settle_s, until its newest object is that old."""
    crm.put("customers/a.jsonl.gz", lines(0, 1))

    with pytest.raises(TransientError, match="settle_s"):
        crm.files(settle_s=3600).list()


@pytest.mark.parametrize(
    "address",
    ["postgres://u:hunter2@h/b", "s3+http://KEY:hunter2@h", "s3+https://h/b", "s3://", "s3+http://k:hunter2@h:port/b"],
)
def test_a_wrong_address_is_refused_without_showing_it(crm: Crm, address: str) -> None:
    """A secret must not be in a log."""
    with pytest.raises(SettingsError, match="Secret env:CRM") as raised:
        SourceBucket.of(address, "env:CRM", load_settings(), crm.store)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("how", ["copied", "streamed"])
def test_objects_land_byte_by_byte_and_once(crm: Crm, how: str) -> None:
    """Also names with every kind of character; a second run finds what the first one landed."""
    names = ["a.jsonl.gz", "b [1]%*.jsonl.gz", "ü=+ &.jsonl.gz"]
    for i, name in enumerate(names):
        crm.put(f"customers/{name}", lines(i, 10))
    source = crm.files(endpoint=crm.endpoint.replace("127.0.0.1", "localhost") if how == "streamed" else "")
    first, second = crm.zone("run-1"), crm.zone("run-2")

    landed = source.observe(first).land(first)
    again = source.observe(second).land(second)

    assert [o.name for o in landed] == sorted(f"customers/{n}" for n in names)
    assert again == landed
    assert all(o.path.startswith(f"s3://pp-dw-test/raw/{first.dataset}/run_id=run-1/") for o in landed)
    for raw in landed:
        original = crm.client.get_object(Bucket=crm.bucket, Key=raw.name)["Body"].read()
        assert crm.store.read(raw.path) == original
    rows, reading = read(source, second, "customer_id")
    assert len(rows) == reading.read == 30


@pytest.mark.parametrize("how", ["copied", "streamed"])
def test_a_large_object_lands_in_parts(crm: Crm, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above 5 GB a server copies only parts; streamed, a part is all that is in memory."""
    monkeypatch.setattr(landing, "COPY_MAX_BYTES", 6 * 1024**2)
    monkeypatch.setattr(landing, "COPIED_PART_BYTES", 5 * 1024**2)
    monkeypatch.setattr(landing, "PART_BYTES", 5 * 1024**2)
    content = bytes(range(256)) * 4096 * 13
    crm.put("customers/a.jsonl.gz", content)
    zone = crm.zone()
    source = crm.files(endpoint=crm.endpoint.replace("127.0.0.1", "localhost") if how == "streamed" else "")

    (landed,) = source.observe(zone).land(zone)

    assert crm.store.read(landed.path) == content
    assert not crm.client.list_multipart_uploads(Bucket=crm.store.bucket).get("Uploads")


@pytest.mark.parametrize("how", ["copied", "streamed"])
def test_an_object_replaced_after_it_was_listed_is_noticed(crm: Crm, how: str) -> None:
    """Its copy would be something that nobody listed; the next listing sees the new one."""
    crm.put("customers/a.jsonl.gz", lines(0, 1))
    zone = crm.zone()
    source = crm.files(endpoint=crm.endpoint.replace("127.0.0.1", "localhost") if how == "streamed" else "")
    delivery = source.observe(zone)
    crm.put("customers/a.jsonl.gz", lines(0, 2))

    with pytest.raises(RestartError, match=r"customers/a.jsonl.gz was replaced or removed"):
        delivery.land(zone)
    assert not zone.landed
    assert len(read(source, zone)[0]) == 2


def test_json_numbers_keep_their_digits(crm: Crm) -> None:
    """A double has 15; and text that looks like a number stays text."""
    values = ["1234567890123456.78", "0.1", "-12345678901234567890.12", "0.0000001", "1.10", '"1234567890123456.78"']
    text = "".join(f'{{"customer_id": {i}, "balance": {v}, "name": {{"x": 1234567890123456.78}}}}\n'
                   for i, v in enumerate(values))  # fmt: skip
    crm.put("customers/a.jsonl.gz", text)

    rows, _ = read(crm.files(), crm.zone(), "customer_id::int, balance, name")

    assert [r[1].rstrip("0") for r in rows] == [v.strip('"').rstrip("0") for v in values]
    assert {r[2] for r in rows} == {'{"x":1234567890123456.78}'}


@pytest.mark.parametrize("value", ["3.10", "-0", "1e5", "[1.10]", '{"x":[3.10]}', '"3.10"', "true"])
def test_a_number_in_a_column_of_text_stays_as_it_was_sent(crm: Crm, value: str) -> None:
    """Article 3.10 is not article 3.1; and what a line holds beside it makes no difference."""
    text = (f'{{"customer_id": {i}, "name" : {value}, "balance": {n}}}\n' for i, n in enumerate((1, 12345678901234567)))
    crm.put("customers/a.jsonl.gz", "".join(text))

    assert read(crm.files(), crm.zone(), "name")[0] == [(value.strip('"'),)] * 2


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_json_lines_are_read_whatever_packs_them(crm: Crm, compression: str | None) -> None:
    """By the key's ending, or by what the manifest says."""
    packed = pa.compress(lines(0, 1000).encode(), codec=compression, asbytes=True) if compression else lines(0, 1000)
    ending = {None: "", "gzip": ".gz", "zstd": ".zst"}[compression]
    crm.put(f"customers/a.jsonl{ending}", packed if isinstance(packed, bytes) else packed.encode())
    crm.put("customers/b", packed if isinstance(packed, bytes) else packed.encode())

    by_ending, reading = read(crm.files(pattern="*.jsonl*"), crm.zone(), "customer_id::int, name, balance")
    declared, _ = read(crm.files(pattern="b", compression=compression or "none"), crm.zone(), "customer_id")

    assert by_ending == [(i, f"Customer {i}", str(i / 4)) for i in range(1000)]
    assert reading.read == len(declared) == 1000


def test_csv_is_read_by_the_names_in_its_first_line(crm: Crm) -> None:
    """Files may order their columns differently; quotes, line ends inside of them and nulls are CSV's."""
    crm.put("customers/a.csv", 'customer_id;name;balance\n1;"A;B ""C""";1.50\n2;"two\nlines";\n')
    crm.put("customers/b.csv", '\ufeffbalance;extra;name;customer_id\r\n3.25;x;"";3\r\n')
    crm.put("customers/c.csv", "customer_id;name;balance\n")
    dialect = {"delimiter": ";"}

    rows, reading = read(
        crm.files(pattern="*.csv", format="csv", csv=dialect), crm.zone(), "customer_id, name, balance"
    )

    assert rows == [("1", 'A;B "C"', "1.50"), ("2", "two\nlines", None), ("3", "", "3.25")]
    assert reading.read == 3


def test_parquet_is_read_with_its_own_types(crm: Crm) -> None:
    """Columns by name; the engine counts nothing, the files' own metadata does."""
    for i, order in enumerate((["customer_id", "name", "balance"], ["balance", "customer_id", "name"])):
        columns = {
            "customer_id": pa.array([i], pa.int64()),
            "name": ["a"],
            "balance": pa.array([i], pa.decimal128(9, 2)),
        }
        sink = io.BytesIO()
        pq.write_table(pa.table({c: columns[c] for c in order}), sink)
        crm.put(f"customers/{i} %.parquet", sink.getvalue())

    rows, reading = read(
        crm.files(pattern="*.parquet", format="parquet"),
        crm.zone(),
        "customer_id, balance::text, typeof(balance), _origin",
    )

    assert rows == [(i, f"{i}.00", "DECIMAL(9,2)", f"customers/{i} %.parquet") for i in range(2)]
    assert reading.read == 2


def test_what_is_no_row_is_handed_over_as_such(crm: Crm) -> None:
    """A line that isn't JSON, or JSON but no object; a CSV line with too many values: kept with its text."""
    crm.put("customers/a.jsonl.gz", '{"customer_id": 1}\n{"customer_id": 2\n[3]\n\n\x1f4\n')
    crm.put("customers/a.csv", "customer_id,name,balance\n1,a,1\n2,b\n3,c,3,4\n")

    of_json, _ = read(crm.files(), crm.zone(), "customer_id, _unreadable, _origin")
    of_csv, reading = read(crm.files(pattern="*.csv", format="csv"), crm.zone(), "customer_id, _unreadable")

    assert {r[:2] for r in of_json} == {("1", None), (None, '{"customer_id": 2'), (None, "[3]"), (None, "\x1f4")}
    assert {r[2] for r in of_json} == {"customers/a.jsonl.gz"}
    assert set(of_csv) == {("1", None), (None, "2,b"), (None, "3,c,3,4")}
    assert reading.read == 3


GOOD = gzip.compress(lines(0, 20_000).encode())
DAMAGED = {
    "cut": GOOD[: len(GOOD) // 2],
    "without its end": GOOD[:-8],
    "flipped": GOOD[: len(GOOD) // 2] + bytes([GOOD[len(GOOD) // 2] ^ 0xFF]) + GOOD[len(GOOD) // 2 + 1 :],
    "no gzip": b"not packed at all",
    "no text": gzip.compress(b"\xff\xfe\xfd" * 100),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_ends_the_reading_with_its_name(crm: Crm, damage: bytes) -> None:
    """The engine's own reader would end without a word, and rows would be missing."""
    crm.put("customers/a.jsonl.gz", lines(0, 10))
    crm.put("customers/b.jsonl.gz", damage)

    with pytest.raises(PermanentError, match=r"customers/b.jsonl.gz can't be read as json_lines"):
        read(crm.files(), crm.zone())


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", "customer_id,name\n1,a\n"), ("a.csv", "\n"), ("a.parquet", "PAR1 no")]
)
def test_a_file_of_another_shape_is_refused_with_its_name(crm: Crm, name: str, content: str) -> None:
    """A missing column would be read as nulls, and nobody would ask where the balances went."""
    crm.put(f"customers/{name}", content)

    with pytest.raises(PermanentError, match=rf"balance|{name}"):
        read(crm.files(pattern="*", format=name[2:]), crm.zone())
