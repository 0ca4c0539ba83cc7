"""Files as odd as files are: cut inside quotes, nested too deeply, lines of 100 MB, thousands of columns."""

import io
import json
import time
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_resources.errors import PermanentError
from tests.integration.files_source import Crm, read

pytest_plugins = ["tests.integration.files_source"]
pytestmark = pytest.mark.timeout(300)


def test_an_object_nested_deeper_than_it_can_be_read_is_no_row(crm: Crm) -> None:
    """Beside a number of many digits, which Python reads: it ended the run, and named no line."""
    deep = f'{{"customer_id": 2, "balance": 12345678901234567.89, "name": {"[" * 5000}{"]" * 5000}}}'
    crm.put("customers/a.jsonl.gz", f'{{"customer_id": 1, "balance": 12345678901234567.89}}\n{deep}\n')

    rows, reading = read(crm.files(), crm.zone(), "customer_id, balance, left(_unreadable, 30)")

    assert rows == [("1", "12345678901234567.89", None), (None, None, 'nested too deeply: {"customer_')]
    assert reading.read == 2


def test_a_name_that_comes_twice_has_its_first_value(crm: Crm) -> None:
    """Whichever way a line is read: that of one with many digits differs."""
    numbers = ("1.5", "12345678901234567.89")
    text = (f'{{"customer_id": {i}, "balance": {n}, "balance": 2, "name": "x"}}\n' for i, n in enumerate(numbers))
    crm.put("customers/a.jsonl.gz", "".join(text))

    assert read(crm.files(), crm.zone(), "balance")[0] == [(n,) for n in sorted(numbers)]


OPEN_QUOTES = {
    "rows are swallowed": 'customer_id,name,balance\n1,a,1\n2,"b,2\n3,c,3\n',
    "the last value is cut": 'customer_id,name,balance\n1,a,1\n2,b,"2',
    "after a doubled quote": 'customer_id,name,balance\n1,a,1\n2,b,"2""\n',
    "a row of too few values": 'customer_id,name,balance\n1,a,1\n2,"b\n',
    "a quote that opens nothing evens it out": 'customer_id,name,balance\n1,5" pipe,1\n2,b,"2\n',
}


@pytest.mark.parametrize("text", OPEN_QUOTES.values(), ids=OPEN_QUOTES)
def test_a_csv_that_ends_inside_quotes_is_refused(crm: Crm, text: str) -> None:
    """The rest of a cut file would be one value, and its rows would be missing without a word."""
    crm.put("customers/a.csv", text)

    with pytest.raises(PermanentError, match=r"customers/a\.csv can't be read as csv: it ends inside of a value"):
        read(crm.files(pattern="*.csv", format="csv"), crm.zone())


@pytest.mark.parametrize(
    "text", ["name\n1\n", 'name\n"1"', "name\n1\n\n\n", 'name\r\n"1"\r\n', 'extra,name\n"",1\n3\n']
)
def test_what_shows_the_end_of_a_csv_is_no_row(crm: Crm, text: str) -> None:
    """Neither a good one nor a bad one, also of files with a single column."""
    crm.put("customers/a.csv", text)
    source = crm.files(pattern="*.csv", format="csv", key=("name",), columns={"name": "string"})

    rows, reading = read(source, crm.zone(), "coalesce(name, _unreadable)")

    assert rows == [("1",), *([("3",)] if "3" in text else [])]
    assert reading.read == len(rows)


@pytest.mark.parametrize("form", ["json_lines", "csv"])
def test_a_row_longer_than_a_block_is_refused_within_bounded_memory(crm: Crm, form: str) -> None:
    """100 MB without a line end, 100 kB packed: it neither takes the process down nor takes other files with it."""
    ending = {"json_lines": "jsonl", "csv": "csv"}[form]
    text = b'{"customer_id":1,"balance":1,"name":"' if form == "json_lines" else b"customer_id,balance,name\n1,1,"
    packer = zlib.compressobj(1, wbits=31)
    packed = packer.compress(text) + b"".join(packer.compress(b"x" * 10**6) for _ in range(100)) + packer.flush()
    crm.put(f"customers/a.{ending}.gz", packed)
    held = pa.default_memory_pool().max_memory()

    with pytest.raises(
        PermanentError, match=rf"customers/a.{ending}.gz can't be read as {form}: a row has more than 8 MB"
    ):
        read(crm.files(pattern=f"*.{ending}.gz", format=form), crm.zone())

    assert pa.default_memory_pool().max_memory() - held < 100 * 2**20


@pytest.mark.parametrize("form", ["json_lines", "csv", "parquet"])
def test_thousands_of_columns_cost_no_more_than_their_text(crm: Crm, form: str) -> None:
    """An export of everything: three are declared, the others stay in the raw copy."""
    names = [*(f"extra_{i}" for i in range(5000)), "customer_id", "name", "balance"]
    rows = [{n: str(i) for n in names} for i in range(20)]
    if form == "json_lines":
        crm.put("customers/a", "".join(json.dumps(r) + "\n" for r in rows))
    elif form == "csv":
        crm.put("customers/a", "\n".join([",".join(names), *(",".join(r.values()) for r in rows)]))
    else:
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        crm.put("customers/a", sink.getvalue())
    started = time.process_time()

    found, reading = read(crm.files(pattern="a", format=form), crm.zone(), "customer_id::int, name, balance")

    assert found == [(i, str(i), str(i)) for i in range(20)]
    assert reading.read == 20
    assert time.process_time() - started < 10
