"""Three months of sales that look up rates, with a KPI over two months: what backfills are tried on."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from hashlib import md5
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from etl_assets.cli.main import app
from tests.integration.lookups_project import write_lookups
from tests.integration.windows_project import add_windows
from tests.lake import Lake, new_lake
from tests.property.tiny_sales import MONTHS, Erp, State

PRICES = 'prices: {currency: EUR, per_worker_hour: {medium: {duckdb: "0.36"}}}\n'
RATES = [("USD", "2024-01-05", "1.25"), ("USD", "2024-02-09", "1.6"), ("USD", "2024-03-08", "1.1")]
Places = set[tuple[str, str]]


@dataclass
class Shop:
    """The lake, its ERP, and the commands that a person types."""

    lake: Lake
    erp: Erp
    state: State
    project: Path

    def sell(self, order: int, amount: str) -> None:
        """Correct the amount of an order; order i is of month i."""
        self.state = replace(self.state, lines={**self.state.lines, (order, 1): Decimal(amount)})
        self.erp.show(self.state)

    def rate(self, currency: str, day: str, rate: str) -> None:
        """As if the bank had published it."""
        self.lake.erp(
            "insert into erp.rates values (%s, %s, %s, '') on conflict (code, rate_date) do update "
            "set rate = excluded.rate", currency, day, rate,
        )  # fmt: skip

    def call(self, *arguments: str) -> Result:
        """What the console script does."""
        with self.lake.environment():
            return CliRunner().invoke(app, list(arguments))

    def told(self, *arguments: str, exit_code: int = 0) -> Any:
        """Its JSON."""
        done = self.call(*arguments, "--json")
        assert done.exit_code == exit_code, (done.output, done.exception)
        return json.loads(done.stdout)

    def published_since(self, epoch: int) -> Places:
        """What was published, with its content new or not."""
        return set(self.lake.platform("select asset, partition from etl.publishes where epoch > %s", epoch))

    @property
    def epoch(self) -> int:
        """Of the newest publish."""
        ((newest,),) = self.lake.platform("select max(epoch) from etl.publishes")
        return int(newest)

    def contents(self) -> dict[str, str]:
        """A digest of every table of the platform's database and of every object of the bucket."""
        tables = self.lake.platform(
            "select quote_ident(schemaname) || '.' || quote_ident(tablename) from pg_tables "
            "where schemaname not in ('pg_catalog', 'information_schema')"
        )
        found = {}
        for (table,) in tables:
            ((digest,),) = self.lake.platform(
                f"select md5(string_agg(t::text, '|' order by t::text)) from {table} as t"
            )
            found[table] = str(digest)
        found["sequences"] = str(self.lake.platform("select schemaname, sequencename, last_value from pg_sequences"))
        store = self.lake.runtime.store.catalog.properties
        found["bucket"] = md5(repr(objects(self.lake, store)).encode(), usedforsecurity=False).hexdigest()
        return found


def objects(lake: Lake, properties: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(key, ETag) of all of the lake's bucket."""
    import boto3

    s3 = boto3.client("s3", endpoint_url=properties["s3.endpoint"], aws_access_key_id=properties["s3.access-key-id"],
                      aws_secret_access_key=properties["s3.secret-access-key"], region_name="us-east-1")  # fmt: skip
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=lake.env["ETL_S3_BUCKET"])
    return [(o["Key"], o["ETag"]) for page in pages for o in page.get("Contents", [])]


def steps(plan: Mapping[str, Any], *actions: str) -> Places:
    """Partitions of a plan with one of these actions."""
    return {(a["asset"], p["partition"]) for a in plan["assets"] for p in a["partitions"] if p["action"] in actions}


def of(month: str, *assets: str) -> Places:
    return {(asset, month) for asset in assets}


def outcomes(done: Mapping[str, Any], *wanted: str) -> Places:
    """Partitions of a backfill of which this came."""
    return {(o["asset"], o["partition"]) for o in done["outcomes"] if o["outcome"] in wanted}


@contextmanager
def new_shop(folder: Path, months: Collection[str] = MONTHS) -> Iterator[Shop]:
    """Everything is published."""
    project = write_lookups(folder / "project")
    add_windows(project, "growth")
    platform = project / "platform.yaml"
    platform.write_text(platform.read_text() + PRICES)
    with new_lake(folder / "home", scale=None, project=project) as lake:
        erp = Erp(lake.erp_dsn)
        lake.erp("create table erp.rates (code text, rate_date date, rate numeric(18,6), note text, "
                 "primary key (code, rate_date))")  # fmt: skip
        orders = {i: (date.fromisoformat(f"{m}-12"), "USD") for i, m in enumerate(months)}
        shop = Shop(lake, erp, State(orders, {(i, 1): Decimal("10.00") for i in orders}), project)
        erp.show(shop.state)
        for rate in RATES:
            shop.rate(*rate)
        run = lake.materialize(MONTHS[0], MONTHS[-1])
        assert run.success, run.error
        yield shop
        erp.close()
