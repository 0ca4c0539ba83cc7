"""`data-pipeline dead-letters list`, `show` and `discard`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from etl_assets.graph.runtime import Runtime
from etl_assets.letters.choice import Choice, Status, assets_of, is_discarded
from etl_resources.dead_letters.discards import FOLDER, Discard, discard, load
from etl_resources.dead_letters.index import LetterFile, Which, files
from etl_resources.dead_letters.letter import LETTERS, REASONS_SHAPE
from etl_resources.dead_letters.reading import letters
from etl_resources.engines.embedded import connect
from etl_resources.engines.transform import engine_error
from etl_resources.errors import PermanentError
from etl_resources.identifiers import literal
from etl_resources.ledger.ledger import Ledger

if TYPE_CHECKING:
    import duckdb

SHOWN_COLUMNS = ("asset", "status", *(n for n in LETTERS.names if n not in ("period", "row_id")))


@dataclass(frozen=True)
class Group:
    """Letters of one table, partition (or all of them), reason and status."""

    table: str
    partition: str | None
    rule: str
    column: str | None
    reason: str
    status: Status
    letters: int
    first_seen: datetime
    last_seen: datetime
    sample: Mapping[str, Any]
    """Of one of them: letter, key, value, source, source_row."""

    def as_json(self) -> dict[str, Any]:
        """For scripts; times in ISO 8601."""
        times = {"first_seen": self.first_seen.isoformat(), "last_seen": self.last_seen.isoformat()}
        return {**vars(self), **times, "sample": dict(self.sample)}


def list_groups(
    runtime: Runtime, choice: Choice, statuses: Sequence[Status], limit: int, *, by_partition: bool = False
) -> list[Group]:
    """The most frequent first. A letter with several reasons is in the group of each."""
    partition = "partition" if by_partition else "null::varchar"
    with _chosen(runtime, choice, statuses) as (engine, query):
        rows = engine.execute(
            f"with told as (select *, unnest(from_json(reasons, {literal(REASONS_SHAPE)})) as r from ({query})) "
            f"select asset, {partition}, coalesce(r.rule, ''), r.column_name, r.reason, status, count(*), "
            "min(first_seen), max(last_seen), to_json(min_by({'letter': letter, 'key': left(key, 200), "
            "'value': left(r.value, 200), 'source': source, 'source_row': source_row}, letter))::varchar "
            f"from told where {choice.of_reason()} "
            f"group by 1, 2, 3, 4, 5, 6 order by 7 desc, 1, 2, 3, 4, 5 limit {int(limit)}"
        ).fetchall()
    return [Group(*(*row[:9], json.loads(row[9]))) for row in rows]


@contextmanager
def show_letters(
    runtime: Runtime, choice: Choice, statuses: Sequence[Status], limit: int
) -> Iterator[tuple[list[str], Iterator[list[tuple[Any, ...]]]]]:
    """(columns, batches of letters), the last seen first."""
    with _chosen(runtime, choice, statuses) as (engine, query):
        cursor = engine.execute(
            f"select {', '.join(SHOWN_COLUMNS)} from ({query}) "
            f"order by last_seen desc, asset, partition, letter limit {int(limit)}"
        )

        def batches() -> Iterator[list[tuple[Any, ...]]]:
            while rows := cursor.fetchmany(100):
                yield rows

        yield list(SHOWN_COLUMNS), batches()


def discard_letters(runtime: Runtime, choice: Choice, by: str, reason: str, *, dry_run: bool) -> dict[str, int]:
    """Set open letters aside in somebody's name: table → letters, or what it would be.

    Raises PermanentError without a table, name or reason.
    """
    if not choice.tables:
        raise PermanentError("Say of which table or dataset letters are discarded.")
    if not by.strip() or not reason.strip():
        raise PermanentError("A discard needs a name (--by) and a --reason: an auditor must know who and why.")
    done: dict[str, int] = {}
    with Ledger.open(runtime.settings) as ledger, _chosen(runtime, choice, ["open"]) as (engine, query):
        for (asset,) in engine.execute(f"select distinct asset from ({query}) order by 1").fetchall():
            chosen = f"select letter from ({query}) where asset = {literal(asset)}"
            if dry_run:
                row = engine.execute(f"select count(distinct letter) from ({chosen})").fetchone()
                done[asset] = int(row[0]) if row else 0
                continue
            name = uuid4().hex
            path = f"{runtime.letters_addresses[asset].location}/{FOLDER}/{name}.parquet"
            done[asset] = discard(ledger, engine, Discard(name, asset, by.strip(), reason.strip(), path), chosen)
    return done


@contextmanager
def _chosen(
    runtime: Runtime, choice: Choice, statuses: Sequence[Status]
) -> "Iterator[tuple[duckdb.DuckDBPyConnection, str]]":
    """An engine, and a query of the letters with their status. What the engine finds wrong is told as ours."""
    import duckdb

    assets = assets_of(runtime, choice.tables)
    with connect(runtime.settings) as engine:
        with Ledger.open(runtime.settings) as ledger:
            current = _files(ledger, "current", assets, choice)
            parts: list[str] = []
            if {"open", "discarded"} & set(statuses):
                load(ledger, engine, assets)
                status = f"case when {is_discarded()} then 'discarded' else 'open' end"
                parts.append(f"select l.*, {status} as status from {letters(current)} l")
            if "replayed" in statuses:
                known = _files(ledger, "known", assets, choice)
                paths = {f.path for f in current}
                parts.append(_replayed([f for f in known if f.path not in paths], current))
            if "refused" in statuses:
                refused = _files(ledger, "refused", assets, choice)
                parts.append(f"select *, 'refused' as status from {letters(refused)}")
        wanted = ", ".join(map(literal, statuses))
        union = " union all by name ".join(parts)
        try:
            yield engine, f"select * from ({union}) where status in ({wanted}) and {choice.condition()}"
        except duckdb.Error as e:
            raise engine_error("Reading dead letters", e) from e


def _replayed(before: Sequence[LetterFile], current: Sequence[LetterFile]) -> str:
    """Query: letters of earlier publishes whose row isn't rejected any more, each as it was seen last."""
    return (
        f"select b.*, 'replayed' as status from {letters(before)} b anti join {letters(current)} c "
        "on b.asset = c.asset and b.partition = c.partition and b.row_id = c.row_id "
        "qualify row_number() over (partition by b.asset, b.partition, b.letter order by b.epoch desc) = 1"
    )


def _files(ledger: Ledger, which: Which, assets: Sequence[str], choice: Choice) -> list[LetterFile]:
    return [f for f in files(ledger.connection, which, assets) if choice.partition_holds(f.partition)]
