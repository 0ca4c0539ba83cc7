"""The product's own steps as writers that can be held between two stages, go on later, or die (their session ends)."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitStateUnknownException

from etl_assets.graph import bronze_table, capture_step, serving_step, table_step
from etl_assets.graph.capture_step import CaptureStep
from etl_assets.graph.computed import Computed
from etl_assets.graph.runtime import Runtime
from etl_assets.graph.table_step import TableStep
from etl_assets.project import Project
from etl_resources.engines import embedded
from etl_resources.ledger.ledger import Ledger
from etl_resources.planning import Plan
from etl_resources.rollback import Rollback
from etl_resources.settings import Settings
from etl_resources.sinks import postgres_sink
from etl_resources.tables import publish, table_store
from etl_resources.tables.publish import PublishOutcome
from tests.databases import query
from tests.property.published_model import Contents
from tests.property.tiny_sales import BRONZE, SERVED

STAGES = ("new", "planned", "computed", "staged", "published")
BOUNDARIES: Mapping[str, tuple[Any, str, str]] = {
    "captured, no totals yet": (CaptureStep, "_record_totals", "dies before"),
    "evidence of staging written, no branch yet": (table_store, "stage", "dies before"),
    "on the branch, nobody knows": (table_store, "stage", "dies after"),
    "published, no evidence": (Ledger, "record_published", "dies before"),
    "published, evidence written": (Ledger, "record_published", "dies after"),
    "request to the catalog lost": (SqlCatalog, "commit_table", "unknown before"),
    "answer of the catalog lost": (SqlCatalog, "commit_table", "unknown after"),
}
"""What may go wrong inside a stage: what is called there, and what happens before or after the call."""
IN_STAGE = tuple(BOUNDARIES)[1:3] + tuple(BOUNDARIES)[5:]
IN_CAPTURE = (*tuple(BOUNDARIES)[:1], *IN_STAGE)
IN_PUBLISH = tuple(BOUNDARIES)[3:]


class Died(BaseException):
    """The end of a writer's process, as far as one process can have it."""


@contextmanager
def failing_at(boundary: str | None) -> Iterator[None]:
    """The first to come by this boundary dies there, or gets no answer."""
    if boundary is None:
        yield
        return
    owner, name, what = BOUNDARIES[boundary]
    original: Callable[..., Any] = getattr(owner, name)
    calls = itertools.count()

    def failing(*args: Any, **kwargs: Any) -> Any:
        first = next(calls) == 0
        if not first or what.endswith("after"):
            result = original(*args, **kwargs)
        if first:
            raise Died(boundary) if what.startswith("dies") else CommitStateUnknownException(boundary)
        return result

    with mock.patch.object(owner, name, failing):
        yield


@contextmanager
def overtaken(asset: str, act: Callable[[], None]) -> Iterator[None]:
    """Something happens when the first writer to come by has proved all that it proves, and is about to commit."""
    module, points = publish, ("publish.before_swap", "publish.rebased")
    if asset == SERVED:
        module, points = postgres_sink, ("postgres.before_transaction",)
    calls = itertools.count()

    def failpoint(name: str, about: str = "") -> None:
        if name in points and next(calls) == 0:
            act()

    with mock.patch.object(module, "failpoint", failpoint):
        yield


class _Warm:
    """An engine that is used again: loading its extensions takes longer than a tiny step."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        attached = "select database_name from duckdb_databases() where type = 'postgres'"
        for (name,) in self._engine.execute(attached).fetchall():
            self._engine.execute(f"detach {name}")


@contextmanager
def warm_engines() -> Iterator[None]:
    """Every step gets the engine that the step before had."""
    engines: dict[tuple[str, ...], _Warm] = {}

    def connect(settings: Settings, *, extensions: tuple[str, ...] = (), **options: Any) -> Any:
        if extensions not in engines:
            engines[extensions] = _Warm(embedded.connect(settings, extensions=extensions, threads=1))
        engines[extensions].close()  # whoever died did not
        return engines[extensions]

    with ExitStack() as patches:
        for module in (capture_step, bronze_table, table_step, serving_step):
            patches.enter_context(mock.patch.object(module, "connect", connect))
        yield


class Writer:
    """One execution of one step. Its stages are `planned`, `computed`, `staged`, `published`; see the subclasses."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.run_id, self.stage = runtime, uuid4().hex, "new"
        self._session = ExitStack()
        self.ledger = self._session.enter_context(Ledger.open(runtime.settings))

    def advance(self) -> None:
        """Do the next stage."""
        stage = STAGES[STAGES.index(self.stage) + 1]
        getattr(self, stage)()
        self.stage = stage

    def end(self) -> None:
        """Its session ends, whether it was done or dies; returns when the server has noticed."""
        pid = self.ledger.connection.info.backend_pid
        self.ledger.connection.close()
        while query(self.runtime.settings.require_postgres(), "select 1 from pg_stat_activity where pid = %s", [pid]):
            pass
        self._session.pop_all()


class CaptureWriter(Writer):
    """All tables of the system in one snapshot; staged at once, published table by table."""

    def __init__(self, runtime: Runtime, months: Sequence[str]) -> None:
        super().__init__(runtime)
        nodes = [runtime.project.tables[name] for name in BRONZE]
        self.step = CaptureStep(runtime, "erp", nodes, self.ledger, self.run_id)
        self.months = months

    def capture(self) -> None:
        self.step.run(self.months)
        self.stage = "staged"

    def publish(self, asset: str) -> PublishOutcome | None:
        """One of the tables."""
        batch = self.step.tables[asset].batch
        return batch.publish() if batch else None


class TableWriter(Writer):
    """A table that SQL makes, or the serving table."""

    def __init__(self, runtime: Runtime, asset: str, months: Sequence[str]) -> None:
        super().__init__(runtime)
        self.asset, self.months = asset, months
        self.plan: Plan
        self.computed_partitions: list[Computed] = []
        self.batch: Any = None

    def planned(self) -> None:
        self._step = TableStep(self.runtime, self.runtime.project.tables[self.asset], self.ledger, self.run_id)
        self.plan = self._step.plan(self.months)

    def computed(self) -> None:
        self.computed_partitions = self._step.compute(self.plan) if self.plan.todo else []

    def staged(self) -> None:
        self.batch = self._step.stage(self.plan, self.computed_partitions) if self.computed_partitions else None

    def publish(self) -> PublishOutcome | None:
        return self.batch.publish() if self.batch else None


class ServingWriter(TableWriter):
    """The serving table; its computing already writes into a staging table."""

    def __init__(self, runtime: Runtime, months: Sequence[str]) -> None:
        super().__init__(runtime, SERVED, months)
        (self._node,) = runtime.project.serving
        self._sink = runtime.sink(self._node)

    def planned(self) -> None:
        self._sink.ensure()
        self._sink.settle(self.ledger)
        self.plan = serving_step._plan(self.run_id, self.months, self.runtime, self._node, self._sink, self.ledger)

    def computed(self) -> None:
        if self.plan.attempt:
            node = self._node
            letters = self.runtime.letters(self.ledger, node.name, self.plan.attempt, self.run_id, node.table.name)
            self.computed_partitions = serving_step._stage(self.runtime, self.ledger, self._sink, letters, self.plan)

    def staged(self) -> None:
        self.batch = serving_step._batch(self._sink, self.ledger, self.plan, self.computed_partitions, self.run_id)


class RollbackWriter(Writer):
    """Somebody who rolls a table back."""

    def __init__(self, runtime: Runtime, asset: str) -> None:
        super().__init__(runtime)
        self.asset = asset

    def roll_back(self, number: int, months: Sequence[str]) -> int | None:
        """Its epoch; None when nothing differs."""
        node, address = self.runtime.project.tables[self.asset], self.runtime.addresses[self.asset]
        with embedded.connect(self.runtime.settings) as engine:
            letters = self.runtime.letters_addresses[self.asset]
            rollback = Rollback(self.runtime.store, self.ledger, engine, address, letters, node.captured_in)
            outcome = rollback.run(str(number), months, f"rollback-{self.run_id[:12]}", "")
        return outcome.epoch if outcome else None

    def epoch(self) -> int:
        """Of the newest rollback of the table, which may have died."""
        dsn = self.runtime.settings.require_postgres()
        ((epoch,),) = query(dsn, "select max(epoch) from etl.pins where asset = %s", [self.asset])
        return int(epoch)


def writer_of(runtime: Runtime, asset: str, months: Sequence[str]) -> TableWriter:
    return ServingWriter(runtime, months) if asset == SERVED else TableWriter(runtime, asset, months)


@dataclass
class Servers:
    """What examples share, because it is slow to make."""

    project: Project
    folder: Path
    new_database: Callable[[], str]
    set_erp: Callable[[str], None]
    empty_bucket: Callable[[], None]


@dataclass
class Held:
    """A writer between two stages, with what the model says it holds."""

    writer: Any
    contents: dict[str, Contents]
    """Asset → what it will publish; a capture has several assets."""
