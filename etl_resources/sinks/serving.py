"""What every serving sink does (C7): one protocol, so that one step serves Postgres and Elasticsearch alike.

write → audit → publish, and settle first what died before. What a store needs to do that is its sink's business.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from etl_resources.dead_letters.writing import Letters
from etl_resources.ledger.ledger import Ledger
from etl_resources.planning import PlannedPartition
from etl_resources.tables.publish import PublishOutcome
from etl_resources.tables.stage import StagedPartition

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class StagedRows:
    """What the store holds of a partition that was written, counted and reread there."""

    rows: int
    keys: int
    version: str
    size_bytes: int
    rejected: int = 0
    """Rows that the store refused; each is a dead letter. The others are `rows`."""
    expected: str | None = None
    """Version of the rows that were not refused; None when none was, and it is the input's."""


Former = Callable[[], str | None]
"""DuckDB table expression of rows that were served before; None when their files are gone."""


class ServingSink(Protocol):
    """One target of one store."""

    @property
    def asset(self) -> str:
        """Name of the serving asset, e.g. postgres.analytics.kpi_net_revenue."""

    def session(self) -> "AbstractContextManager[ServingSink]":
        """This sink for the length of a step: what is dear to open stays open."""

    @property
    def writers(self) -> int:
        """Partitions that are written at once, each in a thread of its own."""

    def ensure(self) -> None:
        """The target exists and fits the contract. Raises PermanentError when it can't."""

    def settle(self, ledger: Ledger) -> dict[str, str]:
        """Dead attempt → published or abandoned; each is fenced first."""

    def published_epochs(self) -> dict[str, int]:
        """Partition → epoch of what is served."""

    def begin(self, attempt: str, epoch: int) -> None:
        """Prepare the attempt."""

    def write(
        self,
        engine: "duckdb.DuckDBPyConnection",
        letters: Letters,
        attempt: str,
        planned: PlannedPartition,
        scan: str,
        former: Former | None = None,
    ) -> StagedRows:
        """Write the rows of a DuckDB table expression and read back what the store has. Raises duckdb.Error.

        former: gives the rows that are served now as the table had them, where they can still be read.
        Several threads may call it at once, each with its cursor of the engine.
        """

    def publish(self, batch: "ServingBatch") -> PublishOutcome:
        """Make the batch visible, fenced by its epoch, and record the evidence."""

    def abandon(self, batch: "ServingBatch", reason: str) -> None:
        """Fence the attempt, then record that it failed."""


@dataclass
class ServingBatch:
    """A written set of partitions. Publishing twice is harmless."""

    sink: ServingSink
    ledger: Ledger
    attempt: str
    run_id: str
    partitions: Sequence[StagedPartition]
    prove: Callable[[Collection[str]], None]
    """Called with the partitions that are served now; raises when publishing would double a moved row."""
    outcome: PublishOutcome | None = field(default=None)

    def publish(self) -> PublishOutcome:
        """Make the batch visible and record the evidence."""
        if self.outcome is None:
            self.outcome = self.sink.publish(self)
        return self.outcome


def recognise_published(ledger: Ledger, asset: str, served: Mapping[str, tuple[int, str]]) -> None:
    """Record what is served and isn't in the ledger yet, before it is replaced: then the store tells it no more.

    served: partition → (epoch, attempt). The writer died after its commit, or is about to record the same.
    """
    known = ledger.at_epochs(asset, {p: epoch for p, (epoch, _) in served.items()})
    for attempt in sorted({attempt for p, (_, attempt) in served.items() if p not in known}):
        ledger.record_published(attempt, [p for p, (_, by) in served.items() if by == attempt], None)
