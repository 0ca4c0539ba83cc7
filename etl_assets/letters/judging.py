"""Rejected rows judged again, by the rules, transforms and references of today; nothing is published or recorded.

Letters of silver, gdp and kpi: their partition is computed anew from its inputs as they are published now, into files
of this machine that go away. Letters of bronze: from their payloads. A row that comes back is one whose source and key
aren't rejected any more, and whose key is among the good ones.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from etl_assets.graph.relations import input_windows, relations
from etl_assets.graph.runtime import Runtime
from etl_assets.project import TableNode
from etl_assets.transforms import rows_from, transform_of
from etl_resources.dead_letters.index import LetterFile
from etl_resources.dead_letters.letter import exact_value, letters_of_judged, payload_columns
from etl_resources.dead_letters.reading import letters
from etl_resources.engines.embedded import connect
from etl_resources.engines.transform import JUDGED, run_transform
from etl_resources.extract.batch_stream import LACKING, UNREADABLE
from etl_resources.extract.delivered_rows import judged_delivery
from etl_resources.identifiers import literal, quote
from etl_resources.ledger.ledger import Ledger
from etl_resources.looked_up import Lookups
from etl_resources.planning import Plan, plan

if TYPE_CHECKING:
    import duckdb

UNCHANGED = "neither its rules nor its inputs changed since"


@dataclass
class Verdict:
    """What becomes, or became, of the open letters of one partition."""

    table: str
    partition: str
    letters: int
    back: int = 0
    """Rows that aren't rejected any more."""
    gone: int = 0
    """Rows that are neither rejected nor there: their source doesn't have them any more, or not like this."""
    stays: dict[str, int] = field(default_factory=dict)
    """Reason of today → rows that it still rejects; a row may have several."""
    still: int = 0
    """Rows that stay rejected."""
    note: str | None = None
    """Why nothing was judged."""


@contextmanager
def judging(runtime: Runtime, asset: str, partitions: Sequence[str]) -> "Iterator[_Judge]":
    """A judge of one table's partitions, which are planned together."""
    node = runtime.project.tables[asset]
    size = runtime.size(node)
    spill = Path(runtime.settings.home).resolve() / "spill"
    spill.mkdir(parents=True, exist_ok=True)
    with (
        connect(runtime.settings, threads=size.threads, memory_mb=size.memory_mb) as engine,
        TemporaryDirectory(dir=spill, prefix="judge-") as folder,
    ):
        the_plan = None if node.sql is None else _plan(runtime, node, partitions)
        yield _Judge(runtime, node, engine, the_plan, folder)


@dataclass(frozen=True)
class _Judge:
    runtime: Runtime
    node: TableNode
    engine: "duckdb.DuckDBPyConnection"
    the_plan: Plan | None
    folder: str

    def judge(self, file: LetterFile) -> Verdict:
        """The letters of one partition. Raises duckdb.Error, and what a transform raises."""
        verdict = Verdict(file.asset, file.partition, file.rows)
        if self.the_plan is None:
            return self._payloads(file, verdict)
        planned = next((p for p in self.the_plan.todo if p.partition == file.partition), None)
        if planned is None:
            verdict.still = file.rows
            pinned = self.the_plan.pinned.get(file.partition)
            verdict.note = str(pinned) if pinned else self.the_plan.refused.get(file.partition, UNCHANGED)
            return verdict
        rejected, good = f"{self.folder}/rejected.parquet", f"{self.folder}/good.parquet"
        result = run_transform(
            self.engine,
            transform_of(self.node, "'auto'"),
            relations(self.runtime.project, self.node, self.the_plan, planned),
            good,
            lambda e: self._keep(e, rejected),
        )
        after = f"read_parquet({literal(rejected)})" if result.rejected else None
        return compare(self.engine, file, after, f"read_parquet({literal(good)})", self.node.contract.key, verdict)

    def _keep(self, engine: "duckdb.DuckDBPyConnection", path: str) -> dict[str, int]:
        columns = payload_columns(engine, JUDGED)
        query = letters_of_judged(JUDGED, self.node.contract.key, columns, rows_from(self.node))
        engine.execute(f"copy ({query}) to {literal(path)} (format parquet)")
        return {}

    def _payloads(self, file: LetterFile, verdict: Verdict) -> Verdict:
        table = self.runtime.store.catalog.load_table(self.runtime.addresses[self.node.name].identifier)
        stored = self.runtime.addresses[self.node.name].as_stored(table).contract
        uncovered = tuple(replace(c, cover=None) for c in stored.columns)  # letters hold covered values
        contract = replace(stored, columns=uncovered)
        names = (*contract.names, UNREADABLE, LACKING)
        values = ", ".join(f"{exact_value(n)} as {quote(n)}" for n in names)
        given = f"(select letter, row_id, {values} from {letters([file])})"
        judged = judged_delivery(self.engine, self.node.name, contract, given)
        self.engine.execute(f"create or replace temp table judged_again as {judged}")
        rows = self.engine.execute(
            "select reason, count(*) from (select unnest(list_transform(_reasons, lambda r: r.reason)) as reason "
            "from judged_again) group by 1 order by 2 desc, 1"
        ).fetchall()
        still = self.engine.execute("select count(*) from judged_again where len(_reasons) > 0").fetchone()
        verdict.stays, verdict.still = dict(rows), int(still[0]) if still else 0
        verdict.back = verdict.letters - verdict.still
        return verdict


def compare(
    engine: "duckdb.DuckDBPyConnection",
    before: LetterFile,
    after: str | None,
    good: str,
    key: Sequence[str],
    verdict: Verdict,
) -> Verdict:
    """What became of letters, given those of the same partition now and its good rows; both table expressions."""
    keys = ", ".join(f"{quote(k)} := {quote(k)}" for k in key)
    now = after or "(select null::varchar as row_id, '[]' as reasons where false)"
    row = engine.execute(
        f"with before as (select * from {letters([before])}), "
        f"left_over as (select * from before anti join {now} a using (row_id)), "
        f"there as (select to_json(struct_pack({keys}))::varchar as key from {good}) "
        "select (select count(*) from left_over), (select count(*) from left_over anti join there using (key) "
        "where row_id = md5(concat_ws(chr(31), source, key)))"
    ).fetchone()
    assert row is not None  # noqa: S101  (an aggregate always returns a row)
    verdict.back, verdict.gone = int(row[0]) - int(row[1]), int(row[1])
    verdict.still = verdict.letters - int(row[0])
    reasons = engine.execute(
        'select r.reason, count(*) from (select unnest(from_json(reasons, \'[{"reason":"VARCHAR"}]\')) as r '
        f"from {now} a semi join {letters([before])} b using (row_id)) group by 1 order by 2 desc, 1"
    ).fetchall()
    verdict.stays = dict(reasons)
    return verdict


def _plan(runtime: Runtime, node: TableNode, partitions: Sequence[str]) -> Plan:
    """As the step plans, in a transaction of the ledger that is rolled back."""
    store, addresses = runtime.store, runtime.addresses
    with Ledger.rehearse(runtime.settings) as ledger:
        return plan(
            ledger,
            asset=node.name,
            tenant=node.dataset.tenant,
            logic_version=node.logic_version,
            run_id="judging",
            requested=partitions,
            pin_inputs=lambda: {n: store.pin(ledger, addresses[n]) for n in node.upstream},
            published_epochs=lambda: store.published_epochs(addresses[node.name]),
            windows=input_windows(runtime.project, node),
            lookups=Lookups(node.lookups, lambda: connect(runtime.settings)),
        )
