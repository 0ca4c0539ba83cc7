"""The shipped example on servers of its own: ERP, CRM files and exchange rates that a test may change.

pytest_plugins = ["tests.lake", "tests.integration.example"]
"""

import gzip
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest

from etl_assets.demo.crm import Drop, create_crm
from etl_assets.demo.rates import make_additions_file
from etl_assets.demo.rates_server import LOOPBACK, RatesServer
from etl_assets.demo.run import SEARCH
from etl_assets.project import ASSETS_FOLDER
from etl_resources.sinks.elasticsearch_sink import ElasticsearchSink
from tests.integration.oracle_eur import Line, Rates, order_lines
from tests.lake import SCALE, Lake, Run, new_lake
from tests.search_target import search_variables

MONTHS = ("2023-12", "2024-01", "2024-02")
"""A year's end: the first days of January need the rates of December."""
FIRST, END = date(2023, 12, 1), date(2024, 3, 1)


@dataclass
class Example:
    """The lake with the example's other two sources."""

    lake: Lake
    rates_file: Path
    added_rates: Rates

    def run(self, **changed: str) -> Run:
        """All assets of MONTHS, which has to succeed."""
        run = self.lake.materialize(MONTHS[0], MONTHS[-1], self.assets, **changed)
        assert run.success, run.error
        return run

    @property
    def searched(self) -> bool:
        """Whether there is an Elasticsearch: without Java everything else is tested."""
        return "ETL_ELASTICSEARCH_URL" in self.lake.env

    @property
    def assets(self) -> list[str]:
        """All that can run here."""
        project = self.lake.runtime.project
        names = [*project.tables, *(node.name for node in project.serving)]
        return [n.replace(".", "/") for n in names if self.searched or not n.startswith(SEARCH)]

    def oracle(self) -> list[Line]:
        """Every order line of MONTHS with its euros."""
        return order_lines(self.lake.erp_dsn, FIRST, END, self.added_rates)

    def add_rate(self, day: date, currency: str, rate: str) -> None:
        """As if the bank had published it."""
        with self.rates_file.open("a") as file:
            file.write(f"{day},{currency},{rate}\n")
        self.added_rates.setdefault(currency, {})[day] = Decimal(rate)

    def drop_customers(self, name: str, *rows: Mapping[str, Any]) -> None:
        """One more file of the CRM."""
        drop = Drop.at(self.lake.env["CRM_S3_URL"])
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        drop.service.put_object(Bucket=drop.bucket, Key=f"customers/{name}", Body=gzip.compress(text.encode()))

    def remove_customers(self, name: str) -> None:
        """A file is gone."""
        drop = Drop.at(self.lake.env["CRM_S3_URL"])
        drop.service.delete_object(Bucket=drop.bucket, Key=f"customers/{name}")

    def customer(self, number: int, **changed: Any) -> dict[str, Any]:
        """A row for the CRM's files: what is published of a customer, with changes."""
        columns = "customer_id, name, segment, nation, region, valid_from::varchar"
        ((*found,),) = self.lake.rows("silver/customers", columns, f"customer_id = {number}")
        names = ("customer_id", "name", "segment", "nation", "region", "valid_from")
        return {**dict(zip(names, found, strict=True)), **changed}


@contextmanager
def new_example(folder: Path, search: Mapping[str, str]) -> Iterator[Example]:
    """The sources at SCALE, nothing published. Needs the stack's servers; `search`: settings of Elasticsearch."""
    rates_file = folder / "rates.csv"
    make_additions_file(rates_file)
    with new_lake(folder, SCALE, project=ASSETS_FOLDER) as lake, RatesServer(0, rates_file) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        drop = Drop.at(crm_url(lake.env))
        lake.env |= {"RATES_URL": f"http://{LOOPBACK}:{server.server_port}", "CRM_S3_URL": crm_url(lake.env), **search}
        create_crm(lake.env["CRM_S3_URL"], scale=SCALE, work_dir=folder, progress=lambda _: None)
        try:
            yield Example(lake, rates_file, {})
        finally:
            server.shutdown()
            for node in lake.runtime.project.serving if search else ():
                if node.name.startswith(SEARCH):
                    drop_indexes(lake.runtime.search_sink(node))
            drop.remove(drop.keys())
            drop.service.delete_bucket(Bucket=drop.bucket)


def drop_indexes(sink: ElasticsearchSink) -> None:
    """Everything that a target has in the session's Elasticsearch."""
    names = [*sink.client.indices.get(index=f"{sink.target}-*", expand_wildcards="all").body]
    if names:
        sink.client.indices.delete(index=names)


def crm_url(env: Mapping[str, str]) -> str:
    """A bucket beside the lake's own."""
    key, secret = (quote(env[f"ETL_S3_{name}_KEY"], safe="") for name in ("ACCESS", "SECRET"))
    scheme, _, server = env["ETL_S3_ENDPOINT"].partition("://")
    return f"s3+{scheme}://{key}:{secret}@{server}/{env['ETL_S3_BUCKET']}-crm"


@pytest.fixture(scope="module")
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    """Published once; the tests of a module share it."""
    request.getfixturevalue("stack")
    try:
        request.getfixturevalue("search")
        search = search_variables()
    except pytest.skip.Exception:
        search = {}
    with new_example(tmp_path_factory.mktemp("example"), search) as made:
        made.run()
        yield made
