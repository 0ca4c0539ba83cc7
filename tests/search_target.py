"""A target in Elasticsearch of a test's own, served by the product's step without a lake: its rows come from a formula.

Ask with `pytest_plugins = ["tests.search_target"]`. A run is the serving step from plan to publish, in this process or
in one that can be killed; Dagster and Iceberg have no part in it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock
from uuid import uuid4

import duckdb
import pytest
from psycopg.conninfo import make_conninfo

from etl_assets.graph import serving_step
from etl_resources import failpoints
from etl_resources.classify import classify
from etl_resources.contract import Contract, ContractColumn
from etl_resources.dead_letters.address import LettersAddress
from etl_resources.dead_letters.index import files
from etl_resources.dead_letters.reading import letters
from etl_resources.dead_letters.writing import Letters
from etl_resources.engines.embedded import connect
from etl_resources.ledger.ledger import Ledger
from etl_resources.planning import Plan, plan
from etl_resources.quality.content_hash import content_hash, version_of
from etl_resources.quality.stored_content import StoredContent
from etl_resources.run_token import InputVersion
from etl_resources.settings import Settings, load_settings
from etl_resources.sinks.elasticsearch_aliases import TargetState, read_state
from etl_resources.sinks.elasticsearch_replace import ReplacingSink
from etl_resources.sinks.elasticsearch_sink import ElasticsearchSink
from etl_resources.sinks.elasticsearch_upsert import UpsertingSink
from etl_resources.sinks.serving import ServingSink
from etl_resources.tables.table_store import TableStore
from tests.conftest import BUCKET
from tests.databases import query, server_dsn
from tests.fault.driver import become
from tests.invariants import prove_no_leftovers
from tests.lake import _SERVER, Child

CONTRACT = Contract(
    (
        ContractColumn("order_id", "bigint", nullable=False),
        ContractColumn("line", "string", nullable=False),
        ContractColumn("order_date", "date"),
        ContractColumn("amount", "decimal(38,10)"),
        ContractColumn("rate", "decimal(4,4)"),
        ContractColumn("changed_at", "timestamptz"),
        ContractColumn("paid", "boolean"),
        ContractColumn("pieces", "int"),
    ),
    ("order_id", "line"),
    "order_date",
)
SOURCE = "gdp.orders"
FORMER: dict[str, str] = {}  # version → its rows, as a table expression: earlier snapshots, in this process
SINKS: Mapping[str, type[ElasticsearchSink]] = {"replace": ReplacingSink, "upsert": UpsertingSink}


@dataclass(frozen=True)
class Rows:
    """A partition's content: so many rows, whose values follow from `salt`; `bad` of them have no date that
    Elasticsearch can hold.

    The first `moved_out` are gone, the first `moved_in` of `moved_from`, another month, came.
    """

    count: int
    salt: int = 1
    bad: int = 0
    moved_out: int = 0
    moved_in: int = 0
    moved_from: str = "0000-00"

    def scan(self, partition: str) -> str:
        """As a DuckDB table expression; the same key lies in one partition only."""
        first = f"{partition}-01" if partition != "all" else "2024-01-01"
        month = 0 if partition == "all" else int(partition[-2:])
        own = f"select i, {month} as month from range({self.moved_out}, {self.count}) t(i)"
        others = f"select i, {int(self.moved_from[-2:])} as month from range({self.moved_in}) t(i)"
        return (
            "(select (i * 100 + month)::bigint as order_id, "
            "'näme \"x\" \\ | ' || i || chr(10) as line, "
            f"case when i < {self.bad} then date 'infinity' else date '{first}' + (i % 28)::int end as order_date, "
            f"((i * {self.salt} + 0.1234567891)::decimal(28,10) * 1000000007)::decimal(38,10) as amount, "
            f"((i * {self.salt} % 9999) / 10000.0 - 0.5)::decimal(4,4) as rate, "
            "timestamptz '2024-01-01 00:00:00.123456+00' + i * interval 1 second as changed_at, "
            f"i % 2 = {self.salt} % 2 as paid, case when i % 5 = 0 then null else (i * {self.salt})::int end as pieces "
            f"from ({own} union all {others}))"
        )

    def version(self, partition: str, where: str = "true") -> str:
        with duckdb.connect() as engine:
            counted = engine.execute(
                f"select count(*), {content_hash(CONTRACT, 'duckdb')} from {self.scan(partition)} where {where}"
            ).fetchone()
        assert counted is not None
        return version_of(*counted)


@dataclass(frozen=True)
class _Input:
    """What stands for the table that is served."""

    rows: Mapping[str, Rows]
    epoch: int
    asset: str = SOURCE
    heads: Mapping[str, Any] = field(default_factory=dict)  # it has no files

    def partition_for(self, partition: str) -> str:
        return partition

    def version(self, partition: str) -> InputVersion | None:
        if partition not in self.rows:
            return None
        FORMER[version := self.rows[partition].version(partition)] = self.rows[partition].scan(partition)
        return InputVersion(SOURCE, partition, version, self.epoch)

    def former_scan(self, _: Ledger, version: InputVersion) -> str | None:
        return FORMER.get(version.version)

    def scan(self, partitions: Sequence[str]) -> str:
        (partition,) = partitions
        return self.rows[partition].scan(partition)


@dataclass
class Served:
    """What one run did."""

    published: list[str] = field(default_factory=list)
    fenced: list[str] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SearchTarget:
    """One target, its ledger and the variables of its runs."""

    env: Mapping[str, str]
    name: str
    load: str

    @cached_property
    def settings(self) -> Settings:
        with self.environment():
            return load_settings()

    @property
    def asset(self) -> str:
        return f"elasticsearch.{self.name}"

    @cached_property
    def sink(self) -> ElasticsearchSink:
        return SINKS[self.load](self.settings, self.name, CONTRACT.key, CONTRACT, self.asset)

    @contextmanager
    def environment(self, **changed: str) -> Iterator[None]:
        with mock.patch.dict("os.environ", {**self.env, **changed}):
            yield

    def serve(self, rows: Mapping[str, Rows], **changed: str) -> Served:
        """A run in this process."""
        with self.environment(**changed):
            return serve(self.name, self.load, rows)

    def spawn(self, rows: Mapping[str, Rows], *, points: Sequence[Mapping[str, Any]] = (), **changed: str) -> Child:
        """The same in a process that can be killed; its result is not a Run: read it with `result`."""
        stem = Path(self.env["ETL_HOME"]) / f"child-{uuid4().hex[:8]}"
        task = {"name": self.name, "load": self.load, "points": [*points],
                "rows": {p: asdict(r) for p, r in rows.items()}}  # fmt: skip
        process = _SERVER.Process(target=_run, args=(task, {**self.env, **changed}, stem))
        process.start()
        return Child(process, stem)

    def result(self, child: Child, timeout_s: float = 180) -> Served | None:
        """What a spawned run did; None when it was killed."""
        child.process.join(timeout_s)
        assert child.process.exitcode is not None, f"still running after {timeout_s} s:\n{child.log[-3000:]}"
        if child.process.exitcode < 0:
            return None
        assert child.process.exitcode == 0, child.log[-3000:]
        return Served(**json.loads(child.stem.with_suffix(".json").read_text()))

    def state(self) -> TargetState:
        return read_state(self.sink.client, self.name)

    def content(self) -> dict[str, StoredContent]:
        """Partition → documents, reread."""
        with duckdb.connect() as engine:
            return {p: self.sink.content(engine, p) for p in self.sink.served()}

    def ledger(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return query(self.env["ETL_POSTGRES_DSN"], sql, parameters)

    def dead_letters(self, partition: str) -> list[tuple[Any, ...]]:
        with Ledger.open(self.settings) as ledger, connect(self.settings) as engine:
            found = files(ledger.connection, "current", [self.asset], [partition])
            rows = engine.execute(f"select reason, key, payload from {letters(found)} order by letter").fetchall()
        return [(reason, json.loads(key), json.loads(payload)) for reason, key, payload in rows]

    def prove_whole(self, rows: Mapping[str, Rows]) -> None:
        """Documents, commit records and ledger tell the same; nothing is left of attempts that are over."""
        with Ledger.open(self.settings) as ledger:
            recorded = {p: (r.epoch, r.version) for p, r in ledger.current(self.asset).items()}
        served = {p: (s.epoch, s.version) for p, s in self.sink.served().items()}
        assert served == recorded
        content = {p: c.version for p, c in self.content().items()}
        assert content == {p: v for p, (_, v) in recorded.items()}
        wanted = {p: r.version(p, "isfinite(order_date)") for p, r in rows.items()}
        assert content == wanted
        assert self.ledger("select attempt from etl.intents where state = 'open' and asset = %s", self.asset) == []
        prove_no_leftovers(self.sink)


def serve(name: str, load: str, rows: Mapping[str, Rows]) -> Served:
    """A run with the environment's settings."""
    settings = load_settings()
    return serve_through(SINKS[load](settings, name, CONTRACT.key, CONTRACT, f"elasticsearch.{name}"), settings, rows)


def serve_through(sink: ServingSink, settings: Settings, rows: Mapping[str, Rows]) -> Served:
    """Plan, write, audit and publish, as the serving step does."""
    done = Served()
    try:
        with Ledger.open(settings) as ledger:
            sink.ensure()
            sink.settle(ledger)
            the_plan = _plan(ledger, sink, rows)
            done.pruned = sorted(the_plan.pruned)
            runtime = cast("Any", SimpleNamespace(settings=settings))
            address = LettersAddress(sink.asset, partitioned=False, database_prefix="search", bucket=BUCKET)
            store = TableStore(settings, BUCKET)
            kept = Letters(store, ledger, address, the_plan.attempt or "", "run", SOURCE)
            computed = serving_step._stage(runtime, ledger, sink, kept, the_plan) if the_plan.attempt else []
            done.errors = [str(c.error) for c in computed if c.error]
            batch = serving_step._batch(sink, ledger, the_plan, computed, "run")
            if batch is not None:
                outcome = batch.publish()
                done.published, done.fenced = sorted(p.partition for p in outcome.published), sorted(outcome.fenced)
    except Exception as e:
        if classify(e) is None:
            raise
        done.errors.append(f"{type(classify(e)).__name__}: {classify(e)}")
    return done


def _plan(ledger: Ledger, sink: ServingSink, rows: Mapping[str, Rows]) -> Plan:
    epoch = ledger.draw_epoch()
    return plan(
        ledger,
        asset=sink.asset,
        tenant="acme",
        logic_version="1",
        run_id="run",
        requested=sorted(rows),
        pin_inputs=lambda: cast("Any", {SOURCE: _Input(rows, epoch)}),
        published_epochs=sink.published_epochs,
    )


def _run(task: Mapping[str, Any], environment: Mapping[str, str], stem: Path) -> None:
    become({**environment, failpoints.SETTING: json.dumps(task["points"])}, stem.with_suffix(".log"))
    done = serve(task["name"], task["load"], {p: Rows(**r) for p, r in task["rows"].items()})
    stem.with_suffix(".json").write_text(json.dumps(asdict(done)))


@pytest.fixture(scope="module")
def search_ledger(stack: object) -> Iterator[str]:
    """DSN of an empty platform database."""
    name, server = f"search_{uuid4().hex[:10]}", server_dsn()
    query(server, f"create database {name}")
    yield make_conninfo(server, dbname=name)
    query(server, f"drop database {name} with (force)")


@pytest.fixture(scope="module")
def make_target(
    search: object, search_ledger: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], SearchTarget]]:
    """Makes empty targets that are deleted when the module is done."""
    endpoint, key, secret = load_settings().require_s3()
    made: list[SearchTarget] = []

    def make(load: str) -> SearchTarget:
        env = {
            "ETL_HOME": str(tmp_path_factory.mktemp("search")), "ETL_POSTGRES_DSN": search_ledger,
            "ETL_S3_ENDPOINT": endpoint, "ETL_S3_ACCESS_KEY": key, "ETL_S3_SECRET_KEY": secret,
            "ETL_RETRY_ELAPSED_S_MAX": "5", "ETL_RETRY_WAIT_S_MAX": "0.5", "ETL_LOCK_TIMEOUT_S": "2",
            **search_variables(),
        }  # fmt: skip
        made.append(SearchTarget(env, f"t_{uuid4().hex[:8]}", load))
        assert made[-1].settings.elasticsearch_url  # read now: a test's thread can't set the process's variables
        return made[-1]

    yield make
    for target in made:
        names = [*target.sink.client.indices.get(index=f"{target.name}-*", expand_wildcards="all").body]
        if names:
            target.sink.client.indices.delete(index=names)


def search_variables() -> dict[str, str]:
    """What a process needs to reach the session's Elasticsearch."""
    settings = load_settings()
    found = {"ETL_ELASTICSEARCH_URL": settings.require_elasticsearch()}
    for name, value in (("API_KEY", settings.elasticsearch_api_key), ("PASSWORD", settings.elasticsearch_password)):
        if value is not None:
            found[f"ETL_ELASTICSEARCH_{name}"] = value.get_secret_value()
    user = settings.elasticsearch_username
    return found | ({"ETL_ELASTICSEARCH_USERNAME": user} if user else {})
