"""A tick of the reconcile sensor with nothing to do: looking at a large Postgres table, and comparing a large ledger.

The table has an index on its change column; its stamps lie before the watermark, as those of most rows do. Then one row
changes. The ledger has 50 assets of 1,000 partitions each, ten in a row made from each other: first nothing is known
of them (a lost cursor), then the source of every chain was published anew and all else is out of date.

    python -m benchmarks.observe [--rows 15000000] [--assets 50] [--partitions 1000]
"""

import argparse
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from benchmarks.harness import Result, save, tell
from etl_assets.graph.runtime import Runtime
from etl_assets.project import load_project
from etl_resources import stack
from etl_resources.calendar import keys_around
from etl_resources.closure import Closure, ClosureNode
from etl_resources.extract.watermark import Changes, find_changes, read_bound
from etl_resources.ledger.connection import migrate
from etl_resources.ledger.state import read_state
from etl_resources.manifest_sources import PostgresSource
from etl_resources.partition_sql import Placement
from etl_resources.reconcile import Facts, Rules, decide
from etl_resources.run_token import InputVersion, inputs_as_json, run_token
from etl_resources.settings import load_settings
from etl_resources.stack.provision import SUPERUSER, dsn
from etl_resources.stack.state import load

GOAL_LOOK_S, GOAL_TICK_S = 0.2, 20.0
CHAIN = 10
SOURCE = PostgresSource.model_validate({
    "kind": "postgres", "system": "erp", "table": "public.orders", "key": ["order_id"], "change_column": "updated_at",
    "columns": {"order_id": "bigint", "order_date": "date", "updated_at": "timestamptz"},
})  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=15_000_000)
    arguments.add_argument("--assets", type=int, default=50)
    arguments.add_argument("--partitions", type=int, default=1_000)
    options = arguments.parse_args()
    bucket = Runtime(load_project()).bucket
    stack.up(load_settings(), bucket=bucket, project_dir=Path.cwd(), ui=False, search=False, progress=tell)
    server, name = (
        dsn(load(load_settings().home).servers["postgres"], SUPERUSER, "postgres"),
        f"bench_{uuid4().hex[:8]}",
    )
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
        try:
            database = make_conninfo(server, dbname=name)
            figures = look(database, options.rows) | compare(database, options.assets, options.partitions)
        finally:
            connection.execute(f"drop database {name} with (force)".encode())
    save(Result("observe", figures))


def look(address: str, rows: int) -> dict[str, Any]:
    """Seconds of a look: connected, bound read, table read."""
    tell(f"{rows:,} rows")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(
            "create table orders (order_id bigint primary key, order_date date, amount numeric(15,2), comment text, "
            "updated_at timestamptz not null default now())"
        )
        connection.execute(
            "insert into orders select i, date '2023-08-01' + (i %% 1096)::int, i / 100.0, md5(i::text), "
            "now() - interval '1 day' - i * interval '1 millisecond' from generate_series(1, %s) i",
            [rows],
        )
        connection.execute("create index on orders (updated_at)")
        connection.execute("analyze orders")
    last = Changes(frozenset(), _bound(address))
    idle: list[float] = []
    for _ in range(20):
        started = time.perf_counter()
        last = _look(address, last)
        idle.append(time.perf_counter() - started)
        assert not last.partitions
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("update orders set updated_at = now() where order_id = 500")
    started = time.perf_counter()
    last = _look(address, last)
    changed = time.perf_counter() - started
    assert len(last.partitions) == 1
    return {
        "rows": rows,
        "idle_look_s": round(sorted(idle)[len(idle) // 2], 4),
        "idle_look_s_max": round(max(idle), 4),
        "look_with_one_change_s": round(changed, 4),
        "goal_look_s": GOAL_LOOK_S,
    }


def _bound(address: str) -> Any:
    with psycopg.connect(address, autocommit=True) as connection:
        return read_bound(connection, "the benchmark").until


def _look(address: str, last: Changes) -> Changes:
    with psycopg.connect(address, autocommit=True, options="-c timezone=UTC") as connection:
        bound = read_bound(connection, "the benchmark")
        return find_changes(connection, SOURCE, Placement("order_date"), bound, last.watermark, last.digests)


def compare(address: str, assets: int, partitions: int) -> dict[str, Any]:
    """Seconds to read the ledger and decide about all of it."""
    months = tuple(keys_around("1943-01", 0, partitions - 1))
    nodes = [
        ClosureNode(
            f"t.a{i:03d}", "acme", "1", months,
            () if i % CHAIN == 0 else (f"t.a{i - 1:03d}",),
        )
        for i in range(assets)
    ]  # fmt: skip
    with psycopg.connect(address, autocommit=True) as connection:
        migrate(connection)
        tell(f"{assets} assets of {partitions} partitions")
        _publish(connection, nodes, months, epoch=1)
        connection.execute("analyze etl.publishes")
        fresh_s, fresh = _decide(connection, nodes)
        _publish(connection, [n for n in nodes if n.is_source], months, epoch=2)
        stale_s, stale = _decide(connection, nodes)
    assert fresh == 0
    assert stale == -(-assets // CHAIN) or stale == 1
    return {
        "assets": assets,
        "partitions": partitions,
        "all_fresh_s": round(fresh_s, 2),
        "all_stale_s": round(stale_s, 2),
        "goal_tick_s": GOAL_TICK_S,
    }


def _decide(connection: "psycopg.Connection[Any]", nodes: list[ClosureNode]) -> tuple[float, int]:
    (now,) = connection.execute("select now()").fetchone() or (None,)
    started = time.perf_counter()
    closure = Closure(nodes, read_state(connection, [n.name for n in nodes]))
    decision = decide(closure, Facts(now), Rules())
    return time.perf_counter() - started, len(decision.requests)


def _publish(
    connection: "psycopg.Connection[Any]", nodes: list[ClosureNode], months: tuple[str, ...], epoch: int
) -> None:
    columns = "asset, partition, epoch, token, version, rows, size_bytes, inputs, attempt, run_id"
    with connection.cursor() as cursor, cursor.copy(f"copy etl.publishes ({columns}) from stdin".encode()) as copy:
        for node in nodes:
            for month in months:
                made_from = node.inputs or ("erp/t",)
                inputs = [InputVersion(name, month, f"1-{1 if node.inputs else epoch:016x}", 1) for name in made_from]
                token = run_token(tenant="acme", asset=node.name, partition=month, logic_version="1", inputs=inputs)
                read = Jsonb(inputs_as_json(inputs))
                copy.write_row((node.name, month, epoch, token, f"1-{epoch:016x}", 1, 1, read, "attempt", "run"))


if __name__ == "__main__":
    main()
