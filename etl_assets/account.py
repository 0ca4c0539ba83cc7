"""`data-pipeline account`: what became of every row of a partition, from the captured source to what is served.

The ledger alone is read. Each hop is held against the versions of its inputs that it really read, not the newest ones.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from etl_assets.project import Project, ServingNode, TableNode
from etl_resources.calendar import WHOLE
from etl_resources.dead_letters.index import samples
from etl_resources.errors import PermanentError
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.lineage import is_source
from etl_resources.ledger.records import Publish
from etl_resources.quality.conservation import COUNTS, Account, rows_of
from etl_resources.run_token import ABSENT, InputVersion
from etl_resources.suggest import hint

NOT_CONSERVED = "each row is made of several, and the manifest names no sum that is conserved"
LOSSES = ("rejected", "deduplicated", "filtered")


@dataclass
class Hop:
    """A table, target or source with what became of the rows of the partitions that were read of it."""

    asset: str
    partitions: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    aggregated: int | None = None
    """Rows of which an aggregate made its groups."""
    filters: dict[str, int] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    sums: dict[str, Decimal] = field(default_factory=dict)
    """Conserved measures over all groups."""
    problems: list[str] = field(default_factory=list)
    """Where it doesn't balance, and by how many."""
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        sums = {measure: str(total) for measure, total in self.sums.items()}
        return {**vars(self), "sums": sums, "balances": not self.problems}


@dataclass(frozen=True)
class Total:
    """The whole way of the rows: captured = arrived + rejected + deduplicated + filtered."""

    source: str
    arrived_in: str
    captured: int
    arrived: int
    losses: Mapping[str, int]

    @property
    def lost(self) -> int:
        """Rows that are nowhere; negative: rows that were captured nowhere."""
        return self.captured - self.arrived - sum(self.losses.values())


@dataclass(frozen=True)
class Accounting:
    """A partition's hops in the order of the flow, and its total where one input leads back to one source."""

    name: str
    partition: str
    hops: Sequence[Hop]
    total: Total | None

    @property
    def balances(self) -> bool:
        """Whether no row is lost and none came from nowhere."""
        return not any(h.problems for h in self.hops) and (self.total is None or not self.total.lost)

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        total = {**vars(self.total), "lost": self.total.lost} if self.total else None
        return {
            "name": self.name, "partition": self.partition, "balances": self.balances,
            "hops": [h.as_json() for h in self.hops], "total": total,
        }  # fmt: skip


def account(project: Project, ledger: Ledger, name: str, partition: str | None) -> Accounting:
    """What became of the rows of a dataset's or table's partition; None: of a table without partitions.

    Raises PermanentError for an unknown name or partition, and for one that isn't published.
    """
    table, ends = _ends(project, name)
    partition = _known_partition(project, table, partition)
    walk = _Walk(ledger)
    current = {end: ledger.current(end, [partition]).get(partition) for end in ends}
    if (published := current[table.name]) is None:
        raise PermanentError(f"{table.name}, partition {partition} is not published yet. Materialize it first.")
    for publish in current.values():
        if publish is not None:
            walk.follow(publish)
    served = {node.name: 1 for node in project.serving}
    order = {name: i for i, name in enumerate((*project.tables, *served))}
    hops = sorted(walk.hops.values(), key=lambda h: order.get(h.asset, -1))
    for end, publish in current.items():
        if publish is None:
            hops.append(Hop(end, [partition], notes=["not published yet"]))
    way = _Walk(ledger, along_grain=True)  # other inputs may lead to more of the same source
    way.follow(published)
    return Accounting(name, partition, hops, _total(way.hops, way.back, table.name))


def _ends(project: Project, name: str) -> tuple[TableNode, list[str]]:
    """The table that is meant, and that table with its targets, or one target."""
    served: dict[str, ServingNode] = {n.name: n for n in project.serving}
    if name in served:
        return served[name].table, [served[name].table.name, name]
    if name in project.tables:
        return project.tables[name], [name]
    if name not in project.datasets:
        valid = [*project.datasets, *project.tables, *served]
        raise PermanentError(f"Unknown dataset or table {name!r}; {hint(name, valid)}.")
    last = project.tables[f"{project.datasets[name].layers[-1]}.{name}"]
    return last, [last.name, *(n.name for n in project.serving if n.table.name == last.name)]


def _known_partition(project: Project, table: TableNode, partition: str | None) -> str:
    if table.dataset.partitions is None:
        if partition not in (None, WHOLE):
            raise PermanentError(f"{table.name} has no partitions: leave {partition!r} out.")
        return WHOLE
    valid = project.platform.calendar.keys(table.dataset.partitions)
    if partition not in valid:
        what = f"has no partition {partition!r}" if partition else "has partitions: name one"
        raise PermanentError(f"{table.name} {what}; valid: {valid[0]} to {valid[-1]}.")
    return partition


@dataclass
class _Walk:
    """From a publish back over exactly the publishes that it read."""

    ledger: Ledger
    along_grain: bool = False
    """Only over the inputs whose rows are followed one by one, or summed."""
    hops: dict[str, Hop] = field(default_factory=dict)
    back: dict[str, str] = field(default_factory=dict)
    """Asset → the input whose rows it follows."""
    seen: dict[tuple[str, str], int] = field(default_factory=dict)

    def follow(self, publish: Publish) -> None:
        """Note a publish and all that it was made from."""
        place, hop = (publish.asset, publish.partition), self._hop(publish.asset)
        if place in self.seen:
            if self.seen[place] != publish.epoch:
                hop.notes.append(f"{publish.partition}: read at the epochs {self.seen[place]} and {publish.epoch}")
            return
        self.seen[place] = publish.epoch
        known = Account.of(publish.counts, publish.account)
        self._add(hop, publish, known)
        upstream = self._upstream(publish, hop)
        hop.problems += _against(publish, known, upstream)
        behind = known.grain or known.aggregated
        if behind:
            self.back[publish.asset] = behind
            if is_source(behind):
                self._source(behind, publish.partition, known.counts["read"])
        for u in upstream:
            if not self.along_grain or u.asset == behind:
                self.follow(u)

    def _hop(self, asset: str) -> Hop:
        return self.hops.setdefault(asset, Hop(asset))

    def _add(self, hop: Hop, publish: Publish, known: Account) -> None:
        hop.partitions.append(publish.partition)
        hop.problems += [f"{publish.partition}: {problem}" for problem in known.problems()]
        if publish.account is None:
            hop.notes.append(f"{publish.partition}: published before its inputs were counted")
        written = rows_of(publish.restated) if publish.restated else publish.rows
        if publish.restated:
            hop.notes.append(
                f"{publish.partition}: closed, {publish.rows} rows are published; counted are the restated ones"
            )
        if known.counts["written"] != written or rows_of(publish.version) != publish.rows:
            hop.problems.append(
                f"{publish.partition}: {known.counts['written']} rows written, {publish.rows} published as "
                f"{publish.version}"
            )
        _sum_into(hop.counts, known.counts)
        _sum_into(hop.filters, known.filters)
        _sum_into(hop.missed, known.missed)
        _sum_into(hop.reasons, known.reasons)
        if known.aggregated is not None:
            hop.aggregated = (hop.aggregated or 0) + known.inputs[known.aggregated][1]
            for measure, (_, grouped) in known.sums.items():
                hop.sums[measure] = hop.sums.get(measure, Decimal(0)) + grouped
        elif known.grain is None and known.inputs and NOT_CONSERVED not in hop.notes:
            hop.notes.append(NOT_CONSERVED)

    def _upstream(self, publish: Publish, hop: Hop) -> list[Publish]:
        """The publishes that were read, as the ledger has them; what is looked up is no row's way.

        A newer publish of the same content stands for the one that was read: what it rejects is rejected now.
        """
        found: list[Publish] = []
        read = [i for i in publish.inputs if not (i.looked_up or i.version == ABSENT or is_source(i.asset))]
        for asset in dict.fromkeys(i.asset for i in read):
            mine = {i.partition: i for i in read if i.asset == asset}
            known = self.ledger.at_epochs(asset, {p: i.epoch for p, i in mine.items()})
            newest = self.ledger.current(asset, mine)
            for partition, i in mine.items():
                what = f"{asset}, partition {partition}"
                if partition not in known:
                    problem = f"the ledger lost epoch {i.epoch} of {what}: run `data-pipeline recover`"
                    hop.problems.append(f"{publish.partition}: {problem}")
                elif known[partition].version != i.version:
                    problem = f"read {i.version} of {what}, which is {known[partition].version}"
                    hop.problems.append(f"{publish.partition}: {problem}")
                elif newest[partition].version != i.version:
                    note = f"epoch {i.epoch} of {what} was read; epoch {newest[partition].epoch} is published since"
                    hop.notes.append(f"{publish.partition}: {note}")
                else:
                    known[partition] = newest[partition]
            found += known.values()
        return found

    def _source(self, asset: str, partition: str, captured: int) -> None:
        hop = self._hop(asset)
        hop.partitions.append(partition)
        _sum_into(hop.counts, {"read": captured, "written": captured})


def _against(publish: Publish, known: Account, upstream: Sequence[Publish]) -> Iterator[str]:
    """Where the rows that were accounted for aren't those that the inputs published."""
    for asset, (inside, _) in known.inputs.items():
        published = inside + known.outside.get(asset, 0)
        found = sum(u.rows for u in upstream if u.asset == asset)
        if published != found:
            yield f"{publish.partition}: {published} rows read of {asset}, which published {found}"
    if known.grain is not None and not is_source(known.grain):
        found = sum(u.rows for u in upstream if u.asset == known.grain)
        if known.counts["read"] != found:
            what = f"{known.counts['read']} rows accounted for, {known.grain} published {found}"
            yield f"{publish.partition}: {what}"


def rejected_behind(ledger: Ledger, inputs: Iterable[InputVersion]) -> list[dict[str, Any]]:
    """Rows that were rejected on the way to these inputs: asset, reason, rows, a sample. The most frequent first."""
    walk = _Walk(ledger)
    for i in inputs:
        if not i.looked_up and i.version != ABSENT:
            for publish in ledger.at_epochs(i.asset, {i.partition: i.epoch}).values():
                walk.follow(publish)
    found: list[dict[str, Any]] = []
    for hop in walk.hops.values():
        known = samples(ledger.connection, hop.asset, hop.partitions) if hop.reasons else {}
        found += [
            {"asset": hop.asset, "reason": reason, "rows": rows, "sample": known.get(reason)}
            for reason, rows in hop.reasons.items()
        ]
    return sorted(found, key=lambda r: -r["rows"])


def _sum_into(into: dict[str, int], counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        into[name] = into.get(name, 0) + count


def _total(hops: Mapping[str, Hop], back: Mapping[str, str], end: str) -> Total | None:
    """Along the input whose rows each table follows; None where the way doesn't lead to a source."""
    way = list(_way(back, end))
    if not is_source(way[-1]):
        return None
    rows = [asset for asset in way[:-1] if hops[asset].aggregated is None]
    losses = {what: sum(hops[asset].counts[what] for asset in rows) for what in LOSSES}
    captured, arrived = hops[way[-1]].counts["written"], hops[rows[0]].counts["written"]
    return Total(way[-1], rows[0], captured, arrived, losses)


def _way(back: Mapping[str, str], end: str) -> Iterator[str]:
    yield end
    while end in back:
        end = back[end]
        yield end


def in_words(partitions: Iterable[str]) -> str:
    """Partitions in a few words: the only one, or the first to the last."""
    found = sorted(set(partitions))
    return found[0] if len(found) == 1 else f"{found[0]} … {found[-1]} ({len(found)})"
