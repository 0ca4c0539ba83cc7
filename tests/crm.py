"""A lake whose source is a bucket of files, and what must hold of it. For tests of integration and of faults."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from etl_assets.verify import verify
from etl_resources.calendar import WHOLE
from etl_resources.object_store import s3_client
from tests.lake import Lake, new_lake
from tests.projects import CUSTOMERS

MONTH = "2024-01"
"""Runs are of months, also those of tables without partitions."""
BRONZE, SERVED = "bronze/customers", "postgres/analytics/customers"
Customer = dict[str, Any]


class CrmLake:
    """The lake, and the CRM that drops files for it."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.endpoint, *keys = lake.settings.require_s3()
        self.keys = (keys[0], keys[1])
        self.s3: Any = s3_client(self.endpoint, self.keys, region="us-east-1", timeout_s=20)
        self.bucket = lake.env["CRM_S3_URL"].rpartition("/")[2]

    def drop(self, name: str, customers: list[Customer | str]) -> None:
        """A file; a text is a line as it is."""
        lines = (c if isinstance(c, str) else json.dumps(c) for c in customers)
        self.put(name, gzip.compress("".join(f"{line}\n" for line in lines).encode()))

    def put(self, name: str, body: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=f"customers/{name}", Body=body)

    def remove(self, name: str) -> None:
        self.s3.delete_object(Bucket=self.bucket, Key=f"customers/{name}")

    def delivered(self) -> list[tuple[Any, ...]]:
        """The rows that fit, as Python itself reads the files."""
        rows = []
        for found in self.s3.list_objects_v2(Bucket=self.bucket)["Contents"]:
            body = self.s3.get_object(Bucket=self.bucket, Key=found["Key"])["Body"].read()
            for line in gzip.decompress(body).decode().splitlines():
                try:
                    c = json.loads(line, parse_float=Decimal, parse_int=Decimal)
                    rows.append((int(c["customer_id"]), c["name"], c["since"], c["balance"]))
                except (ValueError, TypeError):
                    continue
        return sorted(rows)

    def published(self) -> list[tuple[Any, ...]]:
        return sorted(self.lake.rows(BRONZE, "customer_id, name, since::text, balance"))

    def served(self) -> list[tuple[Any, ...]]:
        return self.lake.platform("select customer_id, name, since::text, balance from analytics.customers order by 1")

    def dead_letters(self) -> list[tuple[str, str]]:
        """(reason, object that the row came from), visible ones."""
        found = self.lake.dead_letters("reason, source", "asset = 'bronze.customers'")
        return [(reason, source) for reason, source in found]

    def raw(self) -> list[str]:
        """Keys of the raw zone, without the run."""
        found = self.s3.list_objects_v2(Bucket=self.lake.settings.s3_bucket, Prefix="raw/").get("Contents", [])
        return [o["Key"] for o in found]

    def run(self, **changed: str) -> str:
        """Status of bronze after a run that has to succeed."""
        run = self.lake.materialize(MONTH, **changed)
        assert run.success, run.error
        return run.statuses[BRONZE][WHOLE]

    def prove_right(self) -> None:
        """Published and served is what lies in the bucket now; every store holds what was published."""
        expected = self.delivered()
        assert self.published() == expected
        assert self.served() == expected
        counts = self.lake.platform(
            "select rows, (counts ->> 'read')::int - (counts ->> 'rejected')::int from etl.current_versions "
            "where asset = 'bronze.customers'"
        )
        assert counts == [(len(expected), len(expected))]
        report = verify(self.lake.runtime, (), (), lambda _: None)
        assert report.equal, "\n".join(report.lines())


def customer(number: int, balance: Any = 1) -> Customer:
    return {"customer_id": number, "name": f"Customer {number}", "since": "2024-01-31", "balance": balance}


@contextmanager
def crm_lake(folder: Path) -> Iterator[CrmLake]:
    """A lake with an empty bucket of a CRM on the platform's own S3."""
    with new_lake(folder, scale=None, project=CUSTOMERS) as lake:
        bucket = f"crm-{lake.env['ETL_S3_BUCKET']}"
        lake.env["CRM_S3_URL"] = f"s3://{bucket}"
        crm = CrmLake(lake)
        crm.s3.create_bucket(Bucket=bucket)
        yield crm
