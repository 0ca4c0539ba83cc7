"""The consolidation of 36 months, gdp_sales and a KPI of it, on each engine, against the same SQL by hand.

    python -m benchmarks.engines --scale 1 [--engines duckdb spark] [--masters local] [--no-bare] [--keep-input]

Each figure is of a whole process on warm servers, from its start to its end: plan, stage, audit, publish and evidence
of 72 partitions on the platform's side. Rows and content of the engines are compared. Goals at scale 10: 1.5 of DuckDB
by hand, 1.15 of Spark by hand, within the size's memory, no more than linear growth from scale 1.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.engines_bare import TABLES
from benchmarks.engines_input import make_input
from benchmarks.harness import Result, save, tell
from benchmarks.process_tree import Taken, measured
from benchmarks.spark_told import spark_told
from etl_assets.graph.runtime import Runtime
from etl_assets.project import load_project
from etl_resources import stack
from etl_resources.ledger.connection import connect
from etl_resources.ledger.ledger import Ledger
from etl_resources.object_store import ObjectStore
from etl_resources.settings import load_settings
from etl_resources.stack.dagster_servers import write_dagster_home
from etl_resources.stack.state import SparkShape, load

GOALS = {"duckdb": 1.5, "spark": 1.15}
SIZES = {"duckdb": "medium", "spark": "large"}
WORKERS = SparkShape(workers=1, cores=2, memory_mb=1536)
"""Of the standalone cluster: what the size asks for."""
LIMIT_S = 7200


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--scale", type=float, default=1.0)
    arguments.add_argument("--engines", nargs="+", choices=list(SIZES), default=list(SIZES))
    arguments.add_argument("--masters", nargs="+", choices=["local", "standalone"], default=["local", "standalone"])
    arguments.add_argument("--no-bare", action="store_true", help="Only the platform's side.")
    arguments.add_argument("--keep-input", action="store_true", help="Take the silver tables that are there.")
    arguments.add_argument("--by-hand-mb", type=int, default=0, help="Memory of DuckDB by hand; 0: that of the size.")
    options = arguments.parse_args()
    runtime = Runtime(load_project())
    spark = WORKERS if "spark" in options.engines and "standalone" in options.masters else "none"
    stack.up(
        load_settings(),
        bucket=runtime.bucket,
        project_dir=Path.cwd(),
        ui=False,
        search=False,
        progress=tell,
        spark=spark,
    )
    runtime = Runtime(runtime.project)  # settings are read anew, now that the servers are there
    work = runtime.settings.home.resolve() / "tmp" / "engines"
    if not options.keep_input:
        _forget(runtime, list(runtime.addresses))
        make_input(runtime, options.scale, work)
    bench = Bench(runtime, work, options.scale, options.by_hand_mb)
    for engine in options.engines:
        for master in options.masters if engine == "spark" else ["local"]:
            save(Result("engines", bench.compare(engine, master, bare=not options.no_bare)))


class Bench:
    """One input, consolidated several times."""

    def __init__(self, runtime: Runtime, work: Path, scale: float, by_hand_mb: int) -> None:
        self._runtime, self._work, self._scale, self._by_hand_mb = runtime, work, scale, by_hand_mb
        self._spill = runtime.settings.home.resolve() / "spill"
        self._content: dict[str, str] = {}
        work.mkdir(parents=True, exist_ok=True)

    def compare(self, engine: str, master: str, *, bare: bool) -> dict[str, Any]:
        """Figures of the platform on one engine, and of the same by hand."""
        address = "local" if master == "local" else load(self._runtime.settings.home).settings["spark_master"]
        _forget(self._runtime, TABLES)
        ours = self._run(["benchmarks.engines_product"], engine, address, "ours")
        content = self._published()
        by_hand = {}
        if bare:
            _make_bare(self._runtime)
            by_hand = self._run(["benchmarks.engines_bare", engine, str(self._by_hand_mb)], engine, address, "bare")
            if engine == "spark":
                found = self._runtime.store.catalog.load_table(_bare_name(self._runtime, TABLES[0]))
                rows = int(found.current_snapshot().summary["total-records"])  # type: ignore[union-attr, index]
                assert rows == content[f"rows of {TABLES[0]}"], f"{rows} by hand, {content} ours"
        figures = {"scale": self._scale, "engine": engine, "master": master, "size": SIZES[engine], **content}
        figures |= {f"ours {name}": value for name, value in ours.items()}
        figures |= {f"by hand {name}": value for name, value in by_hand.items()}
        if bare:
            figures["by hand memory MB, 0: the size's"] = self._by_hand_mb
            figures["ours / by hand"] = round(ours["s"] / by_hand["s"], 2)
        return {**figures, "goal": GOALS[engine]}

    def _run(self, module: list[str], engine: str, address: str, name: str) -> dict[str, Any]:
        shutil.rmtree(self._spill, ignore_errors=True)
        told = self._work / f"{name}-events"
        shutil.rmtree(told, ignore_errors=True)
        told.mkdir()
        environment = {**os.environ, "ETL_SIZE": SIZES[engine], "ETL_SPARK_MASTER": address}
        environment["DAGSTER_HOME"] = str(write_dagster_home(self._runtime.settings.home, Path.cwd()))
        environment["SPARK_CONF_DIR"] = str(_logged(told, self._work / "conf"))
        log = self._work / f"{name}-{engine}.log"
        taken = measured([sys.executable, "-m", *module], environment, self._spill, log, LIMIT_S)
        tell(f"{name}, {engine} on {address}: {taken}")
        steps = json.loads(log.read_text().splitlines()[-1]) if name == "ours" else {}
        return {**_figures(taken), **({"steps": steps} if steps else {}), **spark_told(told)}

    def _published(self) -> dict[str, Any]:
        """Rows of each table; raises when another engine published another content before."""
        found: dict[str, Any] = {}
        with Ledger.open(self._runtime.settings) as ledger:
            for name in TABLES:
                current = ledger.current(name)
                found[f"rows of {name}"] = sum(p.rows for p in current.values())
                content = " ".join(current[partition].version for partition in sorted(current))
                assert self._content.setdefault(name, content) == content, f"{name} has another content by this engine"
        return found


def _figures(taken: Taken) -> dict[str, Any]:
    return {
        "s": taken.seconds,
        "peak MB": taken.peak_mb,
        "peak MB by program": dict(taken.peak_mb_of),
        "spilled MB at once": taken.spilled_mb,
    }


def _logged(events: Path, folder: Path) -> Path:
    """A folder of Spark's settings by which it tells of its tasks."""
    folder.mkdir(exist_ok=True)
    (folder / "spark-defaults.conf").write_text(
        f"spark.eventLog.enabled true\nspark.eventLog.dir file://{events}\nspark.eventLog.rolling.enabled false\n"
        "spark.eventLog.compress false\n"
    )
    return folder


def _bare_name(runtime: Runtime, name: str) -> str:
    return f"{runtime.addresses[name].identifier}_bare"


def _make_bare(runtime: Runtime) -> None:
    """Empty Iceberg tables of the same columns and months."""
    from pyiceberg.exceptions import NoSuchTableError
    from pyiceberg.schema import Schema

    for name in TABLES:
        address = runtime.addresses[name]
        try:
            runtime.store.catalog.drop_table(_bare_name(runtime, name))
        except NoSuchTableError:
            tell(f"{name} by hand is made for the first time")
        for location in (f"{address.location}_bare", f"s3://{runtime.bucket}/bare/{name}"):
            store = ObjectStore.of(runtime.store.catalog, location)
            store.delete(o.path for o in store.list(""))
        table = runtime.store.catalog.load_table(address.identifier)
        fields = [f.model_copy(update={"required": False}) for f in table.schema().fields]
        runtime.store.catalog.create_table(
            _bare_name(runtime, name), Schema(*fields), location=f"{address.location}_bare", partition_spec=table.spec()
        )


def _forget(runtime: Runtime, names: list[str] | tuple[str, ...]) -> None:
    """Drop tables with their files, and what the ledger knows of them."""
    from pyiceberg.exceptions import NoSuchTableError

    for address in (runtime.addresses[name] for name in names):
        try:
            runtime.store.catalog.drop_table(address.identifier)
        except NoSuchTableError:
            continue
        store = ObjectStore.of(runtime.store.catalog, address.location)
        for folder in ("data", "metadata", "evidence"):
            store.delete(o.path for o in store.list(folder))
    with Ledger.open(runtime.settings):
        pass  # its tables are there
    with connect(runtime.settings.require_postgres(), setting="ETL_POSTGRES_DSN") as connection:
        gone = list(names)
        connection.execute(
            "delete from etl.intent_partitions "
            "where attempt in (select attempt from etl.intents where asset = any(%s))",
            (gone,),
        )
        known = connection.execute(
            "select c.table_name from information_schema.columns c join information_schema.tables t "
            "using (table_schema, table_name) where t.table_schema = 'etl' and t.table_type = 'BASE TABLE' "
            "and c.column_name = 'asset'"
        ).fetchall()
        for (table,) in known:
            connection.execute(f'delete from etl."{table}" where asset = any(%s)'.encode(), (gone,))


if __name__ == "__main__":
    main()
