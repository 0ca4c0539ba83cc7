"""What must hold of a lake whenever no run is under way, whatever happened before. Raises AssertionError."""

import time

import psycopg

from etl_resources.engines.embedded import connect
from etl_resources.ledger.ledger import Ledger
from etl_resources.quality.audit import read_back
from etl_resources.tables.input_tables import parquet_scan
from tests.lake import Lake

DEADLINE_S = 30


def prove_whole(lake: Lake) -> None:
    """No loss, no duplicate, no leftover: tables, ledger, serving and source tell the same story."""
    published = prove_tables(lake)
    prove_serving(lake)
    prove_nothing_left(lake)
    months = sorted(published)
    assert lake.published_kpi(*months) == lake.oracle(*months)


def prove_tables(lake: Lake) -> set[str]:
    """Content reread from S3 has the version that the ledger recorded; no key is in two partitions. Served months."""
    with Ledger.open(lake.settings) as ledger, connect(lake.settings) as engine:
        for name, address in lake.runtime.addresses.items():
            pinned = lake.runtime.store.pin(ledger, address)
            recorded = ledger.current(name)
            assert {p: h.epoch for p, h in pinned.heads.items()} == {p: r.epoch for p, r in recorded.items()}, name
            for partition, head in pinned.heads.items():
                stored = read_back(engine, address.contract, parquet_scan(head.data_paths, pinned.schema))
                assert stored.version == recorded[partition].version, (name, partition)
            paths = [path for head in pinned.heads.values() for path in head.data_paths]
            if paths:
                whole = read_back(engine, address.contract, parquet_scan(paths, pinned.schema))
                assert whole.rows == whole.keys, f"{name}: {whole.rows - whole.keys} keys lie in two partitions"
        return set(ledger.current("postgres.analytics.kpi_net_revenue"))


def prove_serving(lake: Lake) -> None:
    """Served rows, reread, have the version that the commit table and the ledger recorded."""
    (node,) = lake.runtime.project.serving
    sink = lake.runtime.sink(node)
    commits = lake.platform("select partition, epoch, version from etl_serving.commits where epoch > 0")
    with Ledger.open(lake.settings) as ledger:
        recorded = {p: (r.epoch, r.version) for p, r in ledger.current(sink.asset).items()}
    assert {p: (epoch, version) for p, epoch, version in commits} == recorded
    counts = sink.counts()
    for partition, (_, version) in recorded.items():
        rows = int(version.split("-")[0])
        assert counts.get(partition, (0, version)) == (rows, version), partition


def prove_nothing_left(lake: Lake) -> None:
    """No branch, no staging table, no open intent."""
    for address in lake.runtime.addresses.values():
        refs = set(lake.runtime.store.catalog.load_table(address.identifier).refs())
        assert refs == {"main"}, address.asset
    assert lake.platform("select relname from pg_class where relnamespace = to_regnamespace('etl_staging')") == []
    assert lake.platform("select attempt, asset from etl.intents where state = 'open'") == []


def await_sessions_gone(lake: Lake) -> None:
    """A killed process's sessions end when the server notices, not when the process ends."""
    deadline = time.monotonic() + DEADLINE_S
    with psycopg.connect(lake.platform_dsn, autocommit=True) as connection:
        while True:
            others = connection.execute(
                "select count(*) from pg_stat_activity where datname = current_database() "
                "and application_name = 'data-pipeline'"
            ).fetchone()
            if others == (0,):
                return
            assert time.monotonic() < deadline, "the killed run's sessions are still there"
            time.sleep(0.05)
