"""What a rollback would put back: partitions whose content differs, proved to be readable and whole."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from etl_resources.engines.transform import engine_error
from etl_resources.errors import PermanentError
from etl_resources.extract.moved_rows import Moves, links
from etl_resources.identifiers import quote
from etl_resources.ledger.closings import refuse_closed
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.records import Publish
from etl_resources.partition_sql import PartitionBy
from etl_resources.progress import report
from etl_resources.quality.stored_content import EMPTY, batches, read_files, unreadable
from etl_resources.run_token import InputVersion, run_token
from etl_resources.tables.address import TableAddress
from etl_resources.tables.head import PartitionHead, read_head
from etl_resources.tables.input_tables import parquet_scan
from etl_resources.tables.schema import read_schema
from etl_resources.tables.versions import Version, files_gone, find_version, version_head, versions

if TYPE_CHECKING:
    import duckdb
    from pyiceberg.table import Table


@dataclass(frozen=True)
class RolledPartition:
    """A partition that differs between the head and the version. `before` is None where the ledger doesn't know."""

    partition: str
    before: Publish | None
    rows_before: int
    after: Publish | None
    """Its publish in the version; None: the version didn't have it, so it becomes empty."""
    linked: tuple[str, ...] = ()
    """Partitions that exchange rows with it by this rollback."""

    @property
    def rows(self) -> int:
        return self.after.rows if self.after else 0

    @property
    def version(self) -> str:
        return self.after.version if self.after else EMPTY.version

    @property
    def inputs(self) -> tuple[InputVersion, ...]:
        return self._made_as.inputs if self._made_as else ()

    @property
    def _made_as(self) -> Publish | None:
        """The publish by which its content was made: not one that kept closed figures, whose inputs gave others."""
        return self.after if self.after and self.after.restated is None else None

    def token(self, address: TableAddress) -> str:
        """Of the version's own publish; an emptied partition, and one that was closed, are as if made from nothing."""
        return self._made_as.token if self._made_as else run_token(
            tenant=address.tenant, asset=address.asset, partition=self.partition,
            logic_version=address.logic_version, inputs=[],
        )  # fmt: skip


@dataclass(frozen=True)
class RollbackPlan:
    """What a rollback will put back."""

    version: Version
    head_number: int
    partitions: tuple[RolledPartition, ...]
    epochs: Mapping[str, int]
    """Partition → epoch of the head that this was planned on."""
    files: Mapping[str, PartitionHead]
    """Partition → what the version holds of it."""


@dataclass(frozen=True)
class RollbackPlanner:
    """Compares one table, as loaded, with its older versions."""

    ledger: Ledger
    engine: "duckdb.DuckDBPyConnection"
    address: TableAddress
    table: "Table"

    def plan(self, wanted: str, partitions: Collection[str] = ()) -> RollbackPlan:
        """What differs from the version (default: in all partitions), proved to be readable and whole.

        Raises PermanentError when the version or its files are gone, or when a row would be in two partitions or none.
        """
        asset, table = self.address.asset, self.table
        version = find_version(table, asset, wanted)
        now, then = read_head(table), version_head(table, asset, version)
        if unknown := sorted(set(partitions) - now.keys() - then.keys()):
            raise PermanentError(f"{asset} has no partition {', '.join(unknown)}, neither now nor in that version.")
        before = self.ledger.at_epochs(asset, {p: h.epoch for p, h in now.items()})
        after = self.ledger.at_epochs(asset, {p: h.epoch for p, h in then.items()})
        if lost := sorted(then.keys() - after.keys()):
            raise PermanentError(
                f"{asset}: the ledger doesn't know from what {', '.join(lost)} of version {version.number} was made. "
                "Run `data-pipeline recover`, then roll back again."
            )
        differing = [
            RolledPartition(p, before.get(p), now[p].rows if p in now else 0, after.get(p))
            for p in sorted(now.keys() | then.keys())
            if p not in before or before[p].version != (after[p].version if p in after else EMPTY.version)
        ]
        chosen = [d for d in differing if not partitions or d.partition in partitions]
        refuse_closed(self.ledger.connection, asset, [d.partition for d in chosen])
        schema = read_schema(table.schema())
        self._prove_content(version, schema, {d.partition: then[d.partition] for d in chosen if d.after}, after)
        moved = links(self._moves(schema, [d.partition for d in differing], chosen, now, then))
        rolled = tuple(replace(d, linked=moved.get(d.partition, ())) for d in chosen)
        return RollbackPlan(version, versions(table)[0].number, rolled, {p: h.epoch for p, h in now.items()}, then)

    def _prove_content(
        self,
        version: Version,
        schema: str,
        files: Mapping[str, PartitionHead],
        published: Mapping[str, Publish],
    ) -> None:
        """What the version's files hold, read by today's columns, is what was published then."""
        import duckdb

        asset = self.address.asset
        for batch in batches(files):
            report(asset, "rereading what is put back", partitions=len(batch))
            try:
                found = read_files(self.engine, self.address.contract, schema, {p: files[p] for p in batch})
            except duckdb.Error as e:
                if not unreadable(e):
                    raise engine_error(asset, e) from e
                raise files_gone(self.table, asset, (version,), str(e)) from e
            differing = [p for p in batch if found[p].version != published[p].version]
            if differing:
                raise PermanentError(
                    f"{asset}: version {version.number} of {', '.join(differing)} reads differently by today's columns "
                    "than when it was published: a column was added or removed since. Set the manifest back, too."
                )

    def _moves(
        self,
        schema: str,
        differing: Sequence[str],
        chosen: Sequence[RolledPartition],
        now: Mapping[str, PartitionHead],
        then: Mapping[str, PartitionHead],
    ) -> Moves:
        """(partition now, partition in the version) of rows that a rollback moves; both have to be rolled back."""
        import duckdb

        key = ", ".join(map(quote, self.address.contract.key))
        partition = f"{PartitionBy.of(self.address.contract).key()} as partition"
        paths = [[p for d in differing if d in heads for p in heads[d].data_paths] for heads in (now, then)]
        if not all(paths) or not chosen:
            return set()
        here, there = (f"select {key}, {partition} from {parquet_scan(some, schema)}" for some in paths)
        try:
            moves: Moves = set(
                self.engine.execute(
                    f"select distinct h.partition, t.partition from ({here}) h join ({there}) t using ({key}) "
                    "where h.partition <> t.partition"
                ).fetchall()
            )
        except duckdb.Error as e:
            raise engine_error(f"{self.address.asset}: comparing keys", e) from e
        rolled = {d.partition for d in chosen}
        torn = sorted(pair for pair in moves if (pair[0] in rolled) != (pair[1] in rolled))
        if torn:
            pairs = ", ".join(f"{then_in} → {now_in}" for now_in, then_in in torn[:5])
            missing = sorted({p for pair in torn for p in pair} - rolled)
            raise PermanentError(
                f"{self.address.asset}: rows moved between partitions since then ({pairs}), so that they would be in "
                f"both or in none. Roll back as well: {' '.join(f'--partition {p}' for p in missing)}."
            )
        return {pair for pair in moves if pair[0] in rolled}
