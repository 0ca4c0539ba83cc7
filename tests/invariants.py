"""What must hold of a lake whenever no run is under way, whatever happened before. Raises AssertionError."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table.snapshots import ancestors_of

from etl_resources.contract import Contract
from etl_resources.dead_letters.address import LettersAddress
from etl_resources.engines.embedded import connect
from etl_resources.identifiers import literal, quote
from etl_resources.ledger.ledger import Ledger
from etl_resources.manifest_targets import ElasticsearchTarget
from etl_resources.quality.content_hash import content_hash, version_of
from etl_resources.sinks.elasticsearch_aliases import read_state
from etl_resources.sinks.elasticsearch_replace import ReplacingSink
from etl_resources.sinks.elasticsearch_sink import ElasticsearchSink
from etl_resources.sinks.postgres_sink import PostgresSink
from etl_resources.tables.head import read_head
from etl_resources.tables.input_tables import PinnedTable, parquet_scan
from etl_resources.tables.stage import partitions_of, properties_of
from tests.lake import Lake

if TYPE_CHECKING:
    import duckdb

DEADLINE_S = 30


def prove_whole(lake: Lake) -> None:
    """No loss, no duplicate, no leftover: tables, ledger, serving and source tell the same story."""
    prove_stores(lake)
    with Ledger.open(lake.settings) as ledger:
        months = sorted(ledger.current("postgres.analytics.kpi_net_revenue"))
    prove_source(lake, months)
    assert lake.published_kpi(*months) == lake.oracle(*months)


def prove_stores(lake: Lake) -> None:
    """What holds whatever the source is."""
    prove_tables(lake)
    prove_serving(lake)
    prove_evidence(lake)
    prove_letters(lake)
    prove_history(lake)
    prove_nothing_left(lake)


def prove_tables(lake: Lake) -> None:
    """Content reread from S3 has the version that the ledger recorded; no key is in two partitions."""
    with Ledger.open(lake.settings) as ledger, connect(lake.settings) as engine:
        for name, address in lake.runtime.addresses.items():
            pinned = lake.runtime.store.pin(ledger, address)
            recorded = ledger.current(name)
            assert {p: h.epoch for p, h in pinned.heads.items()} == {p: r.epoch for p, r in recorded.items()}, name
            assert versions_of(engine, address.contract, pinned) == {p: r.version for p, r in recorded.items()}, name


def versions_of(engine: "duckdb.DuckDBPyConnection", contract: Contract, pinned: PinnedTable) -> dict[str, str]:
    """Partition → version of the rows in its files, all read in one pass; a key is in one of them only."""
    empty = version_of(0, "0" * 16)
    places = {path: partition for partition, head in pinned.heads.items() for path in head.data_paths}
    if not places:
        return dict.fromkeys(pinned.heads, empty)
    listed = ", ".join(f"({literal(path)}, {literal(partition)})" for path, partition in places.items())
    found = engine.execute(
        f"select in_partition, count(*), count(distinct ({', '.join(map(quote, contract.key))})), "
        f"{content_hash(contract, 'duckdb')} from {parquet_scan(sorted(places), pinned.schema)} "
        f"join (values {listed}) as place(in_file, in_partition) on in_file = filename "
        "group by grouping sets ((in_partition), ())"
    ).fetchall()
    ((rows, keys),) = ((rows, keys) for partition, rows, keys, _ in found if partition is None)
    assert rows == keys, f"{pinned.asset}: {rows - keys} keys lie in two partitions"
    stored = {partition: version_of(rows, digits) for partition, rows, _, digits in found if partition is not None}
    return dict.fromkeys(pinned.heads, empty) | stored


def prove_serving(lake: Lake) -> None:
    """Served rows and documents, reread, have the version that their store's commits and the ledger recorded."""
    for node in lake.runtime.project.serving:
        if isinstance(node.target, ElasticsearchTarget):
            prove_documents(lake, lake.runtime.search_sink(node))
        else:
            prove_rows(lake, lake.runtime.postgres_sink(node))


def prove_rows(lake: Lake, sink: PostgresSink) -> None:
    """A target in Postgres."""
    committed = "select partition, epoch, version from etl_serving.commits where epoch > 0 and target = %s"
    commits = lake.platform(committed, sink.target)
    with Ledger.open(lake.settings) as ledger:
        recorded = {p: (r.epoch, r.version) for p, r in ledger.current(sink.asset).items()}
    assert {p: (epoch, version) for p, epoch, version in commits} == recorded
    counts = sink.counts()
    for partition, (_, version) in recorded.items():
        rows = int(version.split("-")[0])
        assert counts.get(partition, (0, version)) == (rows, version), partition


def prove_documents(lake: Lake, sink: ElasticsearchSink) -> None:
    """A target in Elasticsearch."""
    with Ledger.open(lake.settings) as ledger, connect(lake.settings) as engine:
        recorded = {p: (r.epoch, r.version) for p, r in ledger.current(sink.asset).items()}
        served = {p: (s.epoch, s.version) for p, s in sink.served().items()}
        assert served == recorded
        for partition, (_, version) in recorded.items():
            assert sink.content(engine, partition).version == version, (sink.asset, partition)


def prove_evidence(lake: Lake) -> None:
    """Each published partition has its ledger row: inputs, token, version, counts that add up, and a closed intent.

    A closed partition counts what its inputs give, which its adjustments tell.
    """
    with Ledger.open(lake.settings) as ledger:
        for name in [*lake.runtime.addresses, *(n.name for n in lake.runtime.project.serving)]:
            for partition, publish in ledger.current(name).items():
                assert publish.inputs, (name, partition)
                assert all(i.version for i in publish.inputs), (name, partition)
                assert publish.token, (name, partition)
    incomplete = lake.platform(
        "select p.asset, p.partition, p.epoch, p.counts, i.state from etl.publishes p "
        "left join etl.intents i using (attempt) where i.state is distinct from 'published' "
        "or coalesce(split_part(p.account ->> 'restated', '-', 1)::bigint, p.rows) <> (p.counts ->> 'written')::bigint "
        "or (p.counts ->> 'read')::bigint <> "
        "(select sum((p.counts ->> what)::bigint) from unnest(%s::text[]) what)",
        ["written", "rejected", "deduplicated", "filtered"],
    )
    assert incomplete == []


def prove_source(lake: Lake, months: Sequence[str]) -> None:
    """Captured and enriched lines equal the ERP's, row by row, by plain SQL."""
    wanted = lake.erp(
        "select l.order_id, l.line_number, o.order_date, l.extended_price, l.discount from erp.order_lines l "
        "join erp.orders o using (order_id) where to_char(o.order_date, 'YYYY-MM') = any(%s) order by 1, 2",
        [*months],
    )
    in_months = "('" + "', '".join(months) + "')"
    for table in ("bronze/sales_lines", "silver/sales_lines"):
        columns = "order_id, line_number, order_date, extended_price, discount"
        assert sorted(lake.rows(table, columns, f"strftime(order_date, '%Y-%m') in {in_months}")) == wanted, table


def prove_history(lake: Lake) -> None:
    """Along main's history the epoch of a partition only grows."""
    for address in lake.runtime.addresses.values():
        table = lake.runtime.store.catalog.load_table(address.identifier)
        newest: dict[str, int] = {}
        for snapshot in ancestors_of(table.current_snapshot(), table.metadata):
            for p in partitions_of(properties_of(table, snapshot.snapshot_id)).values():
                assert p.epoch < newest.get(p.partition, p.epoch + 1), (address.asset, p.partition)
                newest[p.partition] = p.epoch


def prove_nothing_left(lake: Lake) -> None:
    """No branch, no staging table, no open intent, no lock, no index that is half built."""
    await_sessions_gone(lake)
    assert lake.platform(
        "select l.objid, l.pid from pg_locks l join pg_database d on d.oid = l.database "
        "where l.locktype = 'advisory' and d.datname = current_database()"
    ) == []  # fmt: skip
    assert lake.platform("select indexrelid::regclass::text from pg_index where not indisvalid") == []
    assert lake.platform("select gid from pg_prepared_xacts where database = current_database()") == []
    for address in lake.runtime.addresses.values():
        refs = lake.runtime.store.catalog.load_table(address.identifier).refs()
        assert [name for name, ref in refs.items() if ref.snapshot_ref_type == "branch"] == ["main"], address.asset
    assert lake.platform("select relname from pg_class where relnamespace = to_regnamespace('etl_staging')") == []
    assert lake.platform("select attempt, asset from etl.intents where state = 'open'") == []
    for node in lake.runtime.project.serving:
        if isinstance(node.target, ElasticsearchTarget):
            prove_no_leftovers(lake.runtime.search_sink(node))


def prove_no_leftovers(sink: ElasticsearchSink) -> None:
    """One index per published partition, at most one superseded beside it, and nothing to write through."""
    state = read_state(sink.client, sink.target)
    superseded = {str(i) for i in sink.unpublished(keep=0)} if isinstance(sink, ReplacingSink) else set()
    writable = {a for aliases in state.indexes.values() for a in aliases if "--fill" in a}
    assert {a.split("--fill")[0] for a in writable} <= superseded, writable
    if isinstance(sink, ReplacingSink):
        assert sink.unpublished(keep=1) == []


def await_sessions_gone(lake: Lake) -> None:
    """A killed process's sessions end when the server notices, not when the process ends."""
    deadline = time.monotonic() + DEADLINE_S
    while data_pipeline_sessions(lake):
        assert time.monotonic() < deadline, "the killed run's sessions are still there"
        time.sleep(0.02)


def data_pipeline_sessions(lake: Lake) -> int:
    """Sessions of runs in the platform's database."""
    ((count,),) = lake.platform(
        "select count(*) from pg_stat_activity where datname = current_database() "
        "and application_name = 'data-pipeline'"
    )
    return int(count)


def prove_letters(lake: Lake) -> None:
    """As many letters as what is published rejected, each of the attempt that is current, none lost or twice."""
    counted = lake.platform(
        "select c.asset, c.partition, c.epoch, c.attempt, (c.counts ->> 'rejected')::int, "
        "coalesce(sum(f.rows), 0)::int "
        "from etl.current_versions c left join etl.current_dead_letter_files f using (asset, partition) "
        "group by 1, 2, 3, 4, 5 order by 1, 2"
    )
    assert [c for c in counted if c[4] != c[5]] == []
    stored = lake.dead_letters("asset, partition, epoch, attempt, count(*)", "true group by all")
    assert stored == [(*c[:4], c[4]) for c in counted if c[4]]
    for address in lake.runtime.letters_addresses.values():
        prove_files_of_letters(lake, address)


def prove_files_of_letters(lake: Lake, address: LettersAddress) -> None:
    """The index names files that their table has; a letters table has no branch."""
    try:
        table = lake.runtime.store.catalog.load_table(address.identifier)
    except NoSuchTableError:
        assert lake.platform("select path from etl.dead_letter_files where asset = %s", address.asset) == []
        return
    paths = {f.file_path for head in read_head(table).values() for f in head.files}
    indexed = lake.platform("select path from etl.dead_letter_files where asset = %s", address.asset)
    assert {path for (path,) in indexed} <= paths, address.asset
    assert set(table.refs()) == {"main"}, address.asset
