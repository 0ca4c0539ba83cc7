"""Whether what the product published is what the oracle says, and whether it computed no more than it had to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_assets.account import account
from etl_assets.verify import verify
from etl_resources.ledger.ledger import Ledger
from tests.histories import oracle
from tests.histories.sources import Sources, history_project
from tests.invariants import prove_stores
from tests.lake import Lake, execute, new_lake

if TYPE_CHECKING:
    from tests.histories.play import Phase

COLUMNS = {
    "bronze.orders": "order_id, order_date, customer_id, currency, shop_id, shop, note, updated_at",
    "bronze.lines": "order_id, line_number, order_date, amount, updated_at",
    "bronze.customers": "customer_id, valid_from, segment, note",
    "bronze.rates": "currency, rate_date, rate",
    "silver.orders": "order_id, order_date, customer_id, currency, shop, note",
    "silver.lines": "order_id, line_number, order_date, amount",
    "silver.customers": "customer_id, valid_from, segment, note",
    "silver.rates": "currency, rate_date, rate",
    "gdp.sales": "order_id, line_number, order_date, customer_id, segment, currency, shop, amount, amount_eur",
    "gdp.order_totals": "order_id, order_date, customer_id, lines, amount_eur",
    "gdp.customer_totals": "customer_id, segment, orders, amount_eur",
    "kpi.revenue": "month, segment, currency, lines, amount, amount_eur",
    "kpi.growth": "month, segment, amount_eur, change_eur",
    "kpi.trailing": "month, shop, lines, amount_eur",
}
SEARCH = "elasticsearch."


@dataclass(frozen=True)
class Published:
    """What is published, and how far the ledger's epochs are."""

    versions: dict[oracle.Place, str]
    epoch: int

    @classmethod
    def of(cls, lake: Lake) -> "Published":
        """Now."""
        rows = lake.platform("select asset, partition, version from etl.current_versions")
        ((epoch,),) = lake.platform("select last_value from etl.epoch")
        return cls({(asset, partition): version for asset, partition, version in rows}, epoch)


def prove_phase(sources: Sources, phase: "Phase", before: Published) -> None:
    """Nothing waits or is stuck; exactly what differs was published anew; nothing else was computed; rows are right."""
    lake, contents = sources.lake, oracle.contents(sources.state())
    assert lake.platform("select * from etl.requests") == []
    now = Published.of(lake)
    assert now.versions.keys() == before.versions.keys(), "another partition is published"
    wanted = {p for p in oracle.published(oracle.changed(phase.contents[0], contents)) if p in now.versions}
    found = {place for place, version in now.versions.items() if before.versions[place] != version}
    assert not found - wanted, f"published without need: {sorted(found - wanted)}"
    assert not wanted - found, f"not published: {sorted(wanted - found)}"
    different: set[oracle.Place] = set()
    for earlier, later in zip(phase.contents, phase.contents[1:], strict=False):
        different |= oracle.changed(earlier, later)
    may = oracle.may_be_computed(different, mixed=len(phase.kinds) > 1)
    computed = {p for p in computed_since(lake, before.epoch) if p[0] not in oracle.BRONZE}
    assert not computed - may, f"computed without need: {sorted(computed - may)}"
    prove_contents(sources, contents)


def computed_since(lake: Lake, epoch: int) -> set[oracle.Place]:
    """What any attempt set out to publish."""
    rows = lake.platform(
        "select distinct asset, partition from etl.intents join etl.intent_partitions using (attempt) "
        "where epoch > %s and partition = any(%s)",
        epoch, [*oracle.MONTHS, oracle.WHOLE],
    )  # fmt: skip
    return {(asset, partition) for asset, partition in rows}


def _prove_rows(found: Sequence[tuple[Any, ...]], expected: oracle.Rows, name: str) -> None:
    one, other = sorted(found, key=repr), sorted(expected, key=repr)
    assert one == other, f"{name}: {[r for r in one if r not in other]} instead of {[r for r in other if r not in one]}"


def prove_contents(sources: Sources, contents: oracle.Contents) -> None:
    """Every table and target, row by row."""
    lake = sources.lake
    for name, columns in COLUMNS.items():
        expected = [row for (asset, _), rows in contents.items() if asset == name for row in rows]
        _prove_rows(lake.rows(name.replace(".", "/"), columns), expected, name)
    for target in (n.name for n in lake.runtime.project.serving):
        table = oracle.SERVED[target]
        expected = [row for (asset, _), rows in contents.items() if asset == table for row in rows]
        if not target.startswith(SEARCH):
            name = target.removeprefix("postgres.")
            _prove_rows(lake.platform(f"select {COLUMNS[table]} from {name}"), expected, target)
        else:
            _prove_rows(documents(lake, target, COLUMNS[table]), [tuple(map(str, row)) for row in expected], target)
    rejected = [tuple(map(str, r[:2])) for (a, _), rows in contents.items() if a == "rejected sales" for r in rows]
    letters = lake.dead_letters("payload ->> '$.order_id', payload ->> '$.line_number'", "asset = 'gdp.sales'")
    _prove_rows(letters, rejected, "dead letters of gdp.sales")


def documents(lake: Lake, target: str, columns: str) -> list[tuple[str, ...]]:
    """As texts, as a reader finds them."""
    (node,) = (n for n in lake.runtime.project.serving if n.name == target)
    found = lake.runtime.search_sink(node).client.search(index=target.removeprefix(SEARCH), size=10_000)
    return [tuple(str(hit["_source"][c]) for c in columns.split(", ")) for hit in found["hits"]["hits"]]


def prove_whole(lake: Lake) -> None:
    """Nothing is left behind, every store holds what was published, and every row is accounted for."""
    prove_stores(lake)
    report = verify(lake.runtime, (), (), lambda _: None)
    assert report.equal, "\n".join(report.lines())
    with Ledger.open(lake.settings) as ledger:
        for target in (n.name for n in lake.runtime.project.serving):
            for partition in ledger.current(target):
                accounting = account(lake.runtime.project, ledger, target, partition)
                assert accounting.balances, accounting.as_json()


def prove_restated(sources: Sources, folder: Path) -> None:
    """Another lake that is made from the same sources at once has the same content in every partition.

    It serves no documents: an Elasticsearch has one index of a name.
    """
    with new_lake(folder, None, project=history_project(folder, {})) as fresh:
        names = ("ERP_DSN", "CRM_S3_URL", "RATES_URL")
        fresh.env |= {name: sources.lake.env[name] for name in names}
        with fresh.environment():
            done = execute(oracle.MONTHS[0], oracle.MONTHS[-1], None)
        assert done.success, done.error
        restated, grown = Published.of(fresh).versions, Published.of(sources.lake).versions
        assert restated == {p: v for p, v in grown.items() if not p[0].startswith(SEARCH)}
