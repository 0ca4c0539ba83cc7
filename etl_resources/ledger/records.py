"""Rows of the ledger as Python knows them, and the SQL that writes and reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from etl_resources.run_token import InputVersion

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class Publish:
    """One published version of a partition, as the ledger knows it."""

    asset: str
    partition: str
    epoch: int
    token: str
    version: str
    rows: int
    size_bytes: int
    snapshot_id: int | None
    inputs: tuple[InputVersion, ...]
    linked: tuple[str, ...]
    fingerprint: str | None
    alias_of: int | None
    counts: Mapping[str, int]
    run_id: str
    attempt: str
    account: Mapping[str, Any] | None = None
    """What became of the rows beyond their counts (quality/conservation); None: published before it was kept."""

    @property
    def restated(self) -> str | None:
        """Content that its inputs give, where the partition is closed and keeps another one; else None."""
        return (self.account or {}).get("restated")

    @property
    def own_account(self) -> Mapping[str, Any] | None:
        """The account of its content alone: whoever puts that back, puts nothing back of what its inputs gave."""
        if self.account is None:
            return None
        return {k: v for k, v in self.account.items() if k not in ("restated", "restated_path")}


@dataclass(frozen=True)
class IntendedPartition:
    """A partition that an attempt means to publish. The token of a capture is known only after hashing it."""

    partition: str
    epoch: int
    token: str | None
    inputs: tuple[InputVersion, ...] = ()


class Logic(NamedTuple):
    """By what an attempt computes; remembered with it, for `why`."""

    version: str
    parts: Mapping[str, str]
    """Name of a part (sql, columns, table …) → its digest."""


class Sized(NamedTuple):
    """How big an attempt is: estimates learn by size and engine."""

    size: str
    """Entry of `sizes` in platform.yaml."""
    engine: str
    """duckdb | spark | glue: what computes the rows."""


def intent_values(attempt: str, asset: str, run_id: str, logic: Logic | None, sized: Sized | None) -> Mapping[str, Any]:
    """Of OPEN_INTENT."""
    from psycopg.types.json import Jsonb

    told = {"logic": logic.version, "parts": Jsonb(dict(logic.parts))} if logic else {"logic": None, "parts": None}
    size, engine = sized or (None, None)
    return {"attempt": attempt, "asset": asset, "run_id": run_id, "size": size, "engine": engine, **told}


PUBLISH_COLUMNS = (
    "asset, partition, epoch, token, version, rows, size_bytes, snapshot_id, inputs, linked, fingerprint, "
    "alias_of, counts, run_id, attempt, account"
)

OPEN_INTENT = """
with remembered as (
    insert into etl.logic_versions (asset, logic_version, parts)
    select %(asset)s, %(logic)s::text, %(parts)s::jsonb where %(logic)s::text is not null on conflict do nothing
)
insert into etl.intents (attempt, asset, run_id, size, engine)
values (%(attempt)s, %(asset)s, %(run_id)s, %(size)s, %(engine)s)
"""
RECORD_PUBLISHED = """
insert into etl.publishes (asset, partition, epoch, token, version, alias_of, rows, size_bytes, snapshot_id, inputs,
                           linked, fingerprint, counts, account, reads, stage_s, attempt, run_id)
select i.asset, p.partition, p.epoch, p.token, staged ->> 'version', (staged ->> 'alias_of')::bigint,
       (staged ->> 'rows')::bigint, (staged ->> 'size_bytes')::bigint, %(snapshot_id)s,
       coalesce(staged -> 'inputs', p.inputs),
       array(select jsonb_array_elements_text(coalesce(staged -> 'linked', '[]'))), staged ->> 'fingerprint',
       coalesce(staged -> 'counts', '{}'), staged -> 'account', staged -> 'reads', (staged ->> 'stage_s')::float8,
       i.attempt, i.run_id
from etl.intents i join etl.intent_partitions p using (attempt)
where i.attempt = %(attempt)s and p.partition = any(%(partitions)s) and p.staged is not null
on conflict (asset, partition, epoch) do nothing
"""

RECORD_VERSION = """
insert into etl.versions (asset, number, snapshot_id, attempt)
select asset, %(number)s, %(snapshot_id)s, attempt from etl.intents where attempt = %(attempt)s
on conflict (asset, number) do update set snapshot_id = excluded.snapshot_id, attempt = excluded.attempt
"""


def capture_lock(system: str, dataset: str = "") -> str:
    """Name of the lock that orders the captures of a system, or of one dataset of it."""
    return f"capture:{system}/{dataset}".rstrip("/")


def publish_of(row: Sequence[Any]) -> Publish:
    """A row of PUBLISH_COLUMNS."""
    (
        asset,
        partition,
        epoch,
        token,
        version,
        rows,
        size,
        snapshot,
        inputs,
        linked,
        fingerprint,
        alias,
        counts,
        run_id,
        attempt,
        account,
    ) = row
    return Publish(
        asset,
        partition,
        epoch,
        token,
        version,
        rows,
        size,
        snapshot,
        tuple(InputVersion(**i) for i in inputs),
        tuple(linked),
        fingerprint,
        alias,
        counts,
        run_id,
        attempt,
        account,
    )


def rows_before(connection: "psycopg.Connection[Any]", asset: str, partition: str, most: int) -> list[int]:
    """Rows of the published partitions before one, newest first."""
    rows = connection.execute(
        "select rows from etl.current_versions where asset = %s and partition < %s order by partition desc limit %s",
        (asset, partition, most),
    ).fetchall()
    return [int(row[0]) for row in rows]
