"""The demo on warm servers: seconds and peak memory of a whole process, first with work, then pruned.

    python -m benchmarks.demo [--scale 0.1]

At scale 0.1 the goals are 90 s with work and 20 s pruned; at every scale at most 1,500 MB in any step, and the peak
doesn't grow from scale 1 to 3. Partitions are made stale by dropping what was published, not the servers.
"""

import argparse
import json
import subprocess
import sys
import time

from benchmarks.harness import Result, save
from etl_assets.graph.runtime import Runtime
from etl_assets.project import load_project
from etl_resources.ledger.connection import connect
from etl_resources.object_store import ObjectStore
from etl_resources.sinks.elasticsearch_client import connect as search

CODE = "from etl_assets.cli.main import main; main()"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--scale", type=float, default=0.1)
    options = arguments.parse_args()
    _demo(options.scale, "--months", "1", "--recreate-source")  # servers and sources are there then
    _forget(Runtime(load_project()))
    figures: dict[str, object] = {"scale": options.scale}
    for name in ("with work", "pruned"):
        seconds, peak_mb, output = _demo(options.scale)
        figures |= {
            f"{name} s": round(seconds, 1),
            f"{name} peak RSS MB": peak_mb,
            f"{name} published": output["published"],
            f"{name} pruned": output["pruned"],
            f"{name} stages s": output["seconds"],
        }
    save(Result("demo", figures))


def _demo(scale: float, *options: str) -> tuple[float, int, dict[str, object]]:
    started = time.monotonic()
    command = [sys.executable, "-c", CODE, "demo", "--scale", str(scale), "--json", "--no-ui", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    output = json.loads(process.stdout.read())
    _, status, usage = _wait(process.pid)
    assert status == 0, output
    return time.monotonic() - started, usage.ru_maxrss // 1024, output


def _wait(pid: int):  # type: ignore[no-untyped-def]
    import os

    return os.wait4(pid, 0)


def _forget(runtime: Runtime) -> None:
    """Drop tables, served rows and documents, and the ledger, so that the first run has all the work to do."""
    for address in runtime.addresses.values():
        try:
            runtime.store.catalog.drop_table(address.identifier)
        except Exception as e:  # noqa: BLE001  (absent before the first run)
            print(f"· {address.identifier}: {type(e).__name__}", file=sys.stderr)
        store = ObjectStore.of(runtime.store.catalog, address.location)
        for folder in ("data", "metadata", "evidence"):
            store.delete(o.path for o in store.list(folder))
    with connect(runtime.settings.require_postgres(), setting="ETL_POSTGRES_DSN") as connection:
        connection.execute("drop schema if exists etl cascade")
        connection.execute("drop schema if exists etl_serving cascade")
        connection.execute("drop schema if exists analytics cascade")
    if runtime.settings.elasticsearch_url:
        with search(runtime.settings) as client:
            for target in runtime.project.platform.allowed_targets.of_store("elasticsearch"):
                found = client.indices.get_alias(index=f"{target}-*", expand_wildcards="all").body
                if found:
                    client.indices.delete(index=list(found))


if __name__ == "__main__":
    main()
