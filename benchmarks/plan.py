"""Planning many partitions: the example over a long calendar, everything published, then one month that changed.

The ledger is a database of its own that is filled by what a run would have recorded, and dropped afterwards. What is
measured is `data-pipeline plan '*' --ledger-only` without the start of its process and the reading of manifests.

    python -m benchmarks.plan [--months 690] [--earlier 9] [--rounds 5]
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from benchmarks.harness import Result, save, tell
from etl_assets.backfill.closure_nodes import closure_nodes
from etl_assets.backfill.plan import plan_of
from etl_assets.graph.runtime import Runtime
from etl_assets.project import ASSETS_FOLDER, load_project
from etl_resources import stack
from etl_resources.calendar import WHOLE, keys_around
from etl_resources.closure import Closure, ClosureNode
from etl_resources.ledger.connection import connect
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.state import Known, LedgerState
from etl_resources.run_token import InputVersion, inputs_as_json, run_token
from etl_resources.settings import load_settings

if TYPE_CHECKING:
    import psycopg

GOAL_S = 2.0
CHANGED = "silver.sales_lines"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--months", type=int, default=690)
    arguments.add_argument("--earlier", type=int, default=9, help="Earlier publishes of each partition.")
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    save(Result("plan", planning(options.months, options.earlier, options.rounds)))


def planning(months: int, earlier: int, rounds: int) -> dict[str, Any]:
    """Figures of planning the example over so many months."""
    stack.up(load_settings(), bucket="plan", project_dir=Path.cwd(), ui=False, search=False, progress=tell)
    with tempfile.TemporaryDirectory() as folder, _database() as dsn:
        project = load_project(_long_project(Path(folder), months))
        settings = load_settings(postgres_dsn=dsn, elasticsearch_url="http://127.0.0.1:9200")
        runtime = Runtime(project, settings)
        nodes = closure_nodes(project)
        with Ledger.open(settings) as ledger:
            published = _fill(ledger.connection, nodes, earlier)
            tell(f"{published:,} partitions published")
            fresh = _measure(runtime, rounds)
            _change(ledger.connection, nodes)
            late = _measure(runtime, rounds)
    return {
        "partitions": published,
        "publishes": published * (1 + earlier),
        "fresh_s": round(fresh[0], 2),
        "fresh_cpu_s": round(fresh[1], 2),
        "late_s": round(late[0], 2),
        "late_cpu_s": round(late[1], 2),
        "planned_when_late": late[2],
        "goal_s": GOAL_S,
    }


def _measure(runtime: Runtime, rounds: int) -> tuple[float, float, int]:
    """(median seconds, of the CPU, partitions that would be computed) of a plan of everything but the sources."""
    seconds, cpu = [], []
    for _ in range(rounds):
        started, busy = time.perf_counter(), time.process_time()
        plan = plan_of(runtime, ["silver", "gdp", "kpi", "serving"], None, None, look=False)
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - busy)
    return statistics.median(seconds), statistics.median(cpu), len(plan.todo)


@contextmanager
def _database() -> Iterator[str]:
    """An empty database on the embedded server, by its superuser."""
    from psycopg.conninfo import make_conninfo

    from etl_resources.stack.provision import SUPERUSER
    from etl_resources.stack.provision import dsn as dsn_of
    from etl_resources.stack.state import load

    server = dsn_of(load(load_settings().home).servers["postgres"], SUPERUSER, "postgres")
    name = f"bench_plan_{uuid4().hex[:8]}"
    with connect(server, setting="the embedded server") as connection:
        connection.execute(f"create database {name}".encode())
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            connection.execute(f"drop database {name} with (force)".encode())


def _long_project(folder: Path, months: int) -> Path:
    """The example with a calendar that begins earlier."""
    root = folder / "project"
    shutil.copytree(ASSETS_FOLDER / "datasets", root / "datasets")
    text = (ASSETS_FOLDER / "platform.yaml").read_text()
    (first,) = keys_around("2026-07", 1 - months, 1 - months)
    (root / "platform.yaml").write_text(text.replace("start: 2023-08", f"start: {first}"))
    return root


def _fill(connection: "psycopg.Connection[Any]", nodes: Sequence[ClosureNode], earlier: int) -> int:
    """As if everything had been published in one run, after so many earlier ones. How many partitions."""
    published: dict[str, dict[str, Known]] = {}
    remembered: dict[tuple[str, str, str], str] = {}
    epoch = 0
    for node in nodes:
        for lookup in node.lookups:
            table = published[lookup.asset][WHOLE]
            for source in published[lookup.source].values():
                remembered[lookup.definition, source.version, table.version] = f"found of {source.version}"
        closure = Closure(nodes, LedgerState(published, remembered=remembered))
        of_node: dict[str, Known] = {}
        for partition in node.partitions:
            epoch += 1
            of_node[partition] = _known(node, partition, epoch, closure.verdict(node.name, partition).inputs)
        published[node.name] = of_node
    _write(connection, published, remembered, earlier)
    return sum(map(len, published.values()))


def _known(node: ClosureNode, partition: str, epoch: int, inputs: Sequence[InputVersion]) -> Known:
    if node.is_source:
        inputs = (InputVersion("erp/erp.orders", partition, f"of {epoch}"),)
    token = run_token(
        tenant=node.tenant, asset=node.name, partition=partition, logic_version=node.logic_version, inputs=inputs
    )
    epoch = 1 if node.captured_with else epoch
    version = f"{epoch}:{node.name}:{partition}"
    return Known(epoch, token, version, 1000, 50_000, 1000, tuple(inputs), None, "bench", datetime.now(UTC))


def _write(
    connection: "psycopg.Connection[Any]",
    published: Mapping[str, Mapping[str, Known]],
    remembered: Mapping[tuple[str, str, str], str],
    earlier: int,
) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        columns = "asset, partition, epoch, token, version, rows, size_bytes, inputs, counts, stage_s, attempt, run_id"
        with cursor.copy(f"copy etl.publishes ({columns}) from stdin") as copy:
            for asset, partitions in published.items():
                for partition, k in partitions.items():
                    told = json.dumps(inputs_as_json(k.inputs)), json.dumps({"read": k.rows_read})
                    copy.write_row(
                        (
                            asset,
                            partition,
                            k.epoch,
                            k.token,
                            k.version,
                            k.rows,
                            k.size_bytes,
                            *told,
                            0.1,
                            asset,
                            "bench",
                        )
                    )
        with cursor.copy("copy etl.lookup_versions (definition, source, looked_up, version) from stdin") as copy:
            for key, version in remembered.items():
                copy.write_row((*key, version))
        for asset, partitions in published.items():
            cursor.execute(
                "insert into etl.intents (attempt, asset, run_id, state, created_at, settled_at) "
                "values (%s, %s, 'bench', 'published', now() - %s * interval '0.1 s', now())",
                (asset, asset, len(partitions)),
            )
            cursor.executemany(
                "insert into etl.intent_partitions (attempt, partition, epoch, inputs) values (%s, %s, %s, '[]')",
                [(asset, partition, k.epoch) for partition, k in partitions.items()],
            )
    connection.execute(
        "insert into etl.publishes select (p).* from (select jsonb_populate_record(p, jsonb_build_object('epoch', "
        "p.epoch - 1000000 * n, 'version', p.version || n, 'token', p.token || n, "
        "'attempt', p.attempt || n)) as p "
        "from etl.publishes p cross join generate_series(1, %s) n) before",
        (earlier,),
    )
    connection.execute("analyze")


def _change(connection: "psycopg.Connection[Any]", nodes: Sequence[ClosureNode]) -> None:
    """One month of CHANGED has another content."""
    month = next(n for n in nodes if n.name == CHANGED).partitions[-20]
    connection.execute(
        "update etl.publishes set version = version || '!' where asset = %s and partition = %s", (CHANGED, month)
    )


if __name__ == "__main__":
    main()
