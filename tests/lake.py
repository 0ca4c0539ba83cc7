"""A lake of a test's own on the stack's servers: platform database, ERP, bucket and home; dropped afterwards.

A test module asks for it with `pytest_plugins = ["tests.lake"]`. Invariants that must hold after every run, whatever
happened before, are in tests/invariants.py.
"""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock
from uuid import uuid4

import dagster as dg
import pytest
from psycopg.conninfo import make_conninfo

from etl_assets.definitions import build_definitions
from etl_assets.demo.erp import create_erp
from etl_assets.graph.jobs import job_of
from etl_assets.graph.runtime import Runtime
from etl_assets.project import load_project
from etl_resources.calendar import WHOLE
from etl_resources.settings import Settings, load_settings
from tests.databases import query, server_dsn
from tests.fault.driver import run_task
from tests.integration.oracle import NetRevenueRow, net_revenue
from tests.projects import SALES
from tests.runs import Run, told_by

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

SCALE = 0.01
PROJECT_DIR = Path(__file__).parent.parent
ORDERS, LINES = "bronze/sales_orders", "bronze/sales_lines"
SILVER_ORDERS, SILVER_LINES = "silver/sales_orders", "silver/sales_lines"
GDP, KPI, SERVED = "gdp/gdp_sales", "kpi/kpi_net_revenue", "postgres/analytics/kpi_net_revenue"
ALL_ASSETS = (ORDERS, LINES, SILVER_ORDERS, SILVER_LINES, GDP, KPI, SERVED)
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.fault.warm"])
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Lake:
    """One pipeline with its own databases and bucket."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = dict(env)
        self.platform_dsn, self.erp_dsn = env["ETL_POSTGRES_DSN"], env["ERP_DSN"]
        self.home = Path(env["ETL_HOME"])

    @cached_property
    def settings(self) -> Settings:
        with self.environment():
            return load_settings()

    @cached_property
    def runtime(self) -> Runtime:
        return Runtime(load_project(self.settings.project), self.settings)

    @contextmanager
    def environment(self, **changed: str) -> Iterator[None]:
        """The lake's variables, and nothing of the caller's own, in this process."""
        with mock.patch.dict(os.environ, self.variables(**changed), clear=True):
            yield

    def variables(self, **changed: str) -> dict[str, str]:
        """The same for another process: it needs no change of this one's, which a thread beside may change, too."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ETL_", "ERP_", "CRM_", "RATES_", "DAGSTER_"))}
        return {**kept, **self.env, **changed}

    def materialize(
        self, first: str, last: str | None = None, selection: Sequence[str] | None = None, **changed: str
    ) -> Run:
        """Run the job over a range of months in this process."""
        with self.environment(**changed):
            return execute(first, last, selection)

    def spawn(
        self,
        first: str,
        last: str | None = None,
        *,
        points: Sequence[Mapping[str, Any]] = (),
        barrier: Path | None = None,
        selection: Sequence[str] | None = None,
        run_id: str | None = None,
        **changed: str,
    ) -> "Child":
        """The same in a process that can be killed. `points`: see etl_resources/failpoints.py."""
        task = {
            "first": first, "last": last, "points": [*points], "barrier": barrier and str(barrier),
            "selection": selection, "run_id": run_id,
        }  # fmt: skip
        return self.fork(run_task, task, **changed)

    def fork(self, body: Callable[..., None], *arguments: Any, **changed: str) -> "Child":
        """body(*arguments, environment, stem of its files) in a process of its own."""
        stem = self.home / f"child-{uuid4().hex[:8]}"
        process = _SERVER.Process(target=body, args=(*arguments, {**self.env, **changed}, stem))
        process.start()
        return Child(process, stem)

    def erp(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Statements in the ERP, committed at once."""
        return query(self.erp_dsn, sql, parameters)

    def platform(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Statements in the platform's database."""
        return query(self.platform_dsn, sql, parameters)

    def oracle(self, *months: str) -> list[NetRevenueRow]:
        """What the KPI must be, by plain SQL in the ERP."""
        return [r for r in net_revenue(self.erp_dsn) if not months or f"{r[0]:%Y-%m}" in months]

    def published_kpi(self, *months: str) -> list[NetRevenueRow]:
        """The KPI as it is served."""
        rows: list[Any] = self.platform(
            "select month, nation, currency, orders, lines, net_revenue, average_order_value "
            "from analytics.kpi_net_revenue where cardinality(%s::text[]) = 0 or to_char(month, 'YYYY-MM') = any(%s) "
            "order by month, nation collate \"C\", currency",
            list(months), list(months),
        )  # fmt: skip
        return rows

    def dead_letters(self, columns: str, where: str = "true") -> list[tuple[Any, ...]]:
        """Visible letters of all tables, as `data-pipeline sql` reads ledger.dead_letters."""
        from etl_assets.query import run_query

        with run_query(self.runtime, f"select {columns} from ledger.dead_letters where {where} order by all") as found:
            return [row for batch in found.batches for row in batch]

    def months_of(self, asset: str, where: str) -> set[str]:
        """Months in which rows of a table of the lake lie that meet a condition."""
        return {m for m, _ in self.rows(asset, "strftime(order_date, '%Y-%m'), 1", where)}

    def rows(self, asset: str, columns: str, where: str = "true") -> list[tuple[Any, ...]]:
        """Rows of a published Iceberg table, e.g. gdp/gdp_sales."""
        from etl_resources.engines.embedded import connect
        from etl_resources.ledger.ledger import Ledger
        from etl_resources.tables.input_tables import parquet_scan
        from etl_resources.tables.schema import read_schema

        store, address = self.runtime.store, self.runtime.addresses[asset.replace("/", ".")]
        with Ledger.open(self.settings) as ledger:
            pinned = store.pin(ledger, address)
        schema = read_schema(store.catalog.load_table(address.identifier).schema())
        paths = sorted(path for head in pinned.heads.values() for path in head.data_paths)
        with connect(self.settings) as engine:
            return engine.execute(f"select {columns} from {parquet_scan(paths, schema)} where {where}").fetchall()


@dataclass
class Child:
    """A run in another process."""

    process: "BaseProcess"
    stem: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return self.stem.with_suffix(".log").read_text()

    def wait(self, timeout_s: float = 180) -> Run | None:
        """Its result, or None when it was killed."""
        self.process.join(timeout_s)
        assert self.process.exitcode is not None, f"still running after {timeout_s} s"
        if self.process.exitcode == -signal.SIGKILL:
            return None
        assert self.process.exitcode == 0, self.log[-3000:]
        return Run(*json.loads(self.stem.with_suffix(".json").read_text()))


@cache
def instance() -> dg.DagsterInstance:
    """One per process: making it costs as much as a small run."""
    return dg.DagsterInstance.ephemeral()


def execute(first: str | None, last: str | None, selection: Sequence[str] | None, run_id: str | None = None) -> Run:
    """Run the job over a range of months, or of tables without partitions, with the environment's settings; a run_id
    given again is a step's retry."""
    job = build_definitions().resolve_job_def(job_of(first or WHOLE))
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first or ""}
    result = job.execute_in_process(
        instance=instance() if "DAGSTER_HOME" not in os.environ else dg.DagsterInstance.get(),
        raise_on_error=False,
        run_config=QUIET,
        run_id=run_id,
        tags={name: value for name, value in tags.items() if value},
        asset_selection=[dg.AssetKey(s.split("/")) for s in selection] if selection else None,
    )
    return told_by(result)


@contextmanager
def new_lake(folder: Path, scale: float | None = SCALE, project: Path = SALES) -> Iterator[Lake]:
    """A lake whose ERP is a copy of the session's template of that scale, or empty. Needs the stack's servers."""
    import boto3

    name, server, settings = f"lake_{uuid4().hex[:10]}", server_dsn(), load_settings()
    template = "template1" if scale is None else _erp_template(server, scale)
    endpoint, key, secret = settings.require_s3()
    bucket = name.replace("_", "-")
    s3 = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret,
                      region_name=settings.s3_region)  # fmt: skip
    s3.create_bucket(Bucket=bucket)
    query(server, f"create database {name}_platform")
    query(server, f"create database {name}_erp template {template}")
    try:
        yield Lake({
            "ETL_PROJECT": str(project), "ETL_HOME": str(folder), "ETL_S3_BUCKET": bucket, "ETL_S3_ENDPOINT": endpoint,
            "ETL_S3_ACCESS_KEY": key, "ETL_S3_SECRET_KEY": secret,
            "ETL_RETRY_ELAPSED_S_MAX": "2", "ETL_RETRY_WAIT_S_MAX": "0.5",
            "ETL_POSTGRES_DSN": make_conninfo(server, dbname=f"{name}_platform"),
            "ERP_DSN": make_conninfo(server, dbname=f"{name}_erp"),
        })  # fmt: skip
    finally:
        for suffix in ("platform", "erp"):
            query(server, f"drop database {name}_{suffix} with (force)")
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            keys = [{"Key": o["Key"]} for o in page.get("Contents", [])]
            if keys:
                s3.delete_objects(Bucket=bucket, Delete={"Objects": keys})
        s3.delete_bucket(Bucket=bucket)


@pytest.fixture(scope="session")
def make_lake(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Lake]]:
    """Makes lakes that live until the session ends."""
    from contextlib import ExitStack

    with ExitStack() as lakes:
        yield lambda: lakes.enter_context(new_lake(tmp_path_factory.mktemp("lake")))
    _drop_templates(server_dsn())


@pytest.fixture
def lake(stack: object, tmp_path: Path) -> Iterator[Lake]:
    """An empty lake for one test."""
    with new_lake(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def module_lake(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """An empty lake that the tests of a module share."""
    with new_lake(tmp_path_factory.mktemp("lake")) as made:
        yield made


_templates: dict[tuple[str, float], str] = {}


def _erp_template(server: str, scale: float) -> str:
    if (server, scale) not in _templates:
        name = f"erp_template_{os.getpid()}_{len(_templates)}"
        query(server, f"drop database if exists {name} with (force)")
        query(server, f"create database {name}")
        dsn = make_conninfo(server, dbname=name)
        create_erp(dsn, scale=scale, work_dir=load_settings().home / "work", progress=lambda _: None)
        _templates[server, scale] = name
    return _templates[server, scale]


def _drop_templates(server: str) -> None:
    """Those of this server; the servers of one module have gone with theirs."""
    for place in [p for p in _templates if p[0] == server]:
        query(server, f"drop database if exists {_templates.pop(place)} with (force)")
