"""Sources that are delivered whole, such as files and API pages, as the step that captures them sees them.

A source is *observed*: what lies there now, told by a fingerprint. If it differs from the published one, the original
bytes are *landed* in the raw zone, and bronze is read from the raw copies alone: it is exactly what was observed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from etl_resources.extract.batch_stream import DeliveredRows
from etl_resources.extract.raw_zone import RawObject, RawZone
from etl_resources.schema_drift import SourceSchema

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Reading:
    """What is read of a delivery, where that isn't what the source declares."""

    columns: tuple[str, ...] = ()
    """All that are read; (): the declared ones."""
    nulls: frozenset[str] = frozenset()
    """Columns that may be missing: they are null there."""
    as_text: frozenset[str] = frozenset()
    """Columns whose values are judged one by one, whatever type they have."""
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Object → its missing column: its rows are rejected, which they say in a column LACKING."""


DECLARED = Reading()


class Delivery(Protocol):
    """One state of a source, as observed."""

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints mean equal content, for ever: files hash their markers, an API its pages."""

    def land(self, zone: RawZone) -> Sequence[RawObject]:
        """The original bytes in the raw zone, in the order of the delivery; what lies there already is left as it is.

        A source that must be read to be observed (an API) has landed its pages then and only returns them. Raises
        TransientError when the source changed since it was observed, with nothing half landed.
        """

    def schema(self, engine: "duckdb.DuckDBPyConnection", landed: Sequence[RawObject]) -> SourceSchema | None:
        """The columns of the raw copies. None: there is no row that would have any.

        What can't be read at all is left to `rows`, which tells it.
        """

    def rows(
        self, engine: "duckdb.DuckDBPyConnection", landed: Sequence[RawObject], reading: Reading = DECLARED
    ) -> DeliveredRows:
        """All rows in the raw copies, streamed batch by batch.

        Columns: each of the source's, as VARCHAR (numbers with all their digits) or of a type that the declared one
        holds; ORIGIN, the object or page that the row came from; UNREADABLE, the text of what is no row (the other
        columns are null then), null for a row. Nothing is left out: what can't be a row is an UNREADABLE one, and
        what can't be read at all raises PermanentError naming the object, at the latest while the rows are read.
        """


class DeliveredSource(Protocol):
    """A source that can be observed. Implementations: s3_files, http_api."""

    def observe(self, zone: RawZone) -> Delivery:
        """What lies at the source now. Called inside the lock that orders its captures.

        Raises PermanentError when there is nothing (a wrong name must not empty a table), TransientError while a
        delivery is still being written.
        """
