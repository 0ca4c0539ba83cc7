"""Memory is bounded by block and part, not by a file's size: landing and typing one file, in a process of its own."""

import gzip
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.files_source import Crm

MEMBER_ROWS = 100_000
"""13 MB of JSON. A gzip file may consist of many members, so a large file is made of one, again and again."""
PART_MEMBERS = 4
"""Members of one part of the upload; S3 takes no part below 5 MB."""
ENGINE_MB = 200
TEXT_MB = 110
"""Blocks of text, ahead and being parsed: 3 of 8 MB each way, and one or two with the engine."""
PROGRAM = """
import json, sys
import pyarrow
from etl_resources.contract import Contract, ContractColumn, Cover
from tests.peak_memory import peak_mb
from etl_resources.engines.embedded import connect
from etl_resources.extract.delivered_rows import write_delivered
from etl_resources.sensitive import HashKey
from etl_resources.settings import load_settings
from tests.integration.files_source import Crm

bucket, rows, folder, endpoint, engine_mb = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
crm = Crm.__new__(Crm)
crm.connect(bucket)
source, zone = crm.files(endpoint=endpoint), crm.zone(dataset=f"rows_{rows}")
types = {"customer_id": "bigint", "name": "string", "balance": "decimal(18,2)"}
covers = {"name": Cover("hash", "string")}
contract = Contract(
    tuple(ContractColumn(n, t, cover=covers.get(n)) for n, t in types.items()), ("customer_id",), None
)
delivery = source.observe(zone)
landed = delivery.land(zone)
with connect(load_settings(), threads=2, memory_mb=engine_mb) as engine:
    written = write_delivered(
        engine, "bronze.customers", contract, delivery.rows(engine, landed), folder, run_id="r",
        field_ids="{customer_id: 1, name: 2, balance: 3, meta_run_id: 4}", keep_rejected=lambda engine: {},
        key=HashKey(b"k" * 32),
    )
assert (written.read, written.written, written.rejected) == (rows, rows, 0), written
rss = peak_mb()
print(json.dumps([rss, pyarrow.default_memory_pool().max_memory() >> 20]))
"""


@dataclass(frozen=True)
class Peak:
    """MB of one process at its highest."""

    rss: int
    text: int
    """What Arrow held."""


def upload(crm: Crm, members: int) -> None:
    lines = (
        f'{{"customer_id":{i},"name":"{i * 2654435761 % 2**64:016x}{"x" * 64}","balance":{i % 997}.25}}\n'
        for i in range(MEMBER_ROWS)
    )
    member = gzip.compress("".join(lines).encode(), 1)
    place: dict[str, Any] = {"Bucket": crm.bucket, "Key": "customers/a.jsonl.gz"}
    upload_id = crm.client.create_multipart_upload(**place)["UploadId"]
    parts = []
    for number, first in enumerate(range(0, members, PART_MEMBERS), start=1):
        body = member * min(PART_MEMBERS, members - first)
        part = crm.client.upload_part(**place, UploadId=upload_id, PartNumber=number, Body=body)
        parts.append({"ETag": part["ETag"], "PartNumber": number})
    crm.client.complete_multipart_upload(**place, UploadId=upload_id, MultipartUpload={"Parts": parts})


def peak(members: int) -> Peak:
    """Of a run over one file of so many members, streamed into the raw zone and typed from there."""
    crm = Crm()
    upload(crm, members)
    endpoint = crm.endpoint.replace("127.0.0.1", "localhost")  # another service than the platform's, as far as is known
    rows, folder = members * MEMBER_ROWS, f"s3://pp-dw-test/bounded/{uuid4().hex}"
    command = [sys.executable, "-c", PROGRAM, crm.bucket, str(rows), folder, endpoint, str(ENGINE_MB)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    crm.remove()
    assert run.returncode == 0, run.stderr
    return Peak(*json.loads(run.stdout))


@pytest.mark.timeout(400)
def test_a_file_three_times_as_large_takes_no_more_memory(stack: object) -> None:
    """65 and 195 MB of JSON, both far more than what is read ahead."""
    small, large = peak(5), peak(15)
    assert large.text < TEXT_MB, (small, large)
    assert large.rss - small.rss < TEXT_MB, (small, large)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_file_of_gigabytes_takes_no_more_memory(stack: object) -> None:
    """5 GB of JSON, 25 times the engine's memory: a constant above it remains a constant."""
    small, large = peak(15), peak(400)
    assert large.text < TEXT_MB, (small, large)
    assert large.rss < small.rss + ENGINE_MB, (small, large)
