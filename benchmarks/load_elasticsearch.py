"""Parquet → an index in Elasticsearch, against curl that posts ready bulk bodies into an index of the same mapping.

The limit is one curl with one connection, as anybody would post a prepared body; two connections are told beside it.
The product makes the index, renders documents from Parquet, sends two requests at a time, looks at every item,
refreshes, and then reads every document back and hashes it: told with and without that. Both times include the refresh.
They take turns; the median of the ratios counts.

    python -m benchmarks.load_elasticsearch [--scale 0.2] [--rounds 5]
"""

import argparse
import statistics
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import duckdb

from benchmarks.harness import Result, peak_rss_mb, save, tell
from benchmarks.orders import CONTRACT, count_orders, orders
from etl_resources import stack
from etl_resources.calendar import WHOLE
from etl_resources.engines.embedded import connect
from etl_resources.ledger.ledger import Ledger
from etl_resources.planning import PlannedPartition
from etl_resources.settings import Settings, load_settings
from etl_resources.sinks import elasticsearch_replace
from etl_resources.sinks.elasticsearch_bulk import CHUNK_ROWS, IN_FLIGHT
from etl_resources.sinks.elasticsearch_documents import document, document_id, mapping
from etl_resources.sinks.elasticsearch_replace import ReplacingSink

GOAL = 0.7
WHOLE_ORDERS = replace(CONTRACT, partition_column=None)
INDEX_SETTINGS = {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--scale", type=float, default=0.2)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    stack.up(load_settings(), bucket="pp-dw-local", project_dir=Path.cwd(), ui=False, progress=tell)
    settings = load_settings()
    seconds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bodies, rows = make_bodies(folder, options.scale), count_orders(folder)
        engine = connect(settings)
        for n in range(options.rounds + 1):  # the first round warms up and is not counted
            found = {f"curl {c}": curl(settings, bodies, rows, connections=c) for c in (1, IN_FLIGHT)}
            found |= product(settings, engine, folder / "ready.parquet", rows)
            if n:
                seconds.append(found)
    save(Result("load_elasticsearch", {"scale": options.scale, "documents": rows, **figures(seconds)}))


def figures(seconds: list[dict[str, float]]) -> dict[str, object]:
    """Medians, and the ratios of each round to both limits."""
    told: dict[str, object] = {
        f"{name} s": round(statistics.median(s[name] for s in seconds), 2) for name in seconds[0]
    }
    for limit in ("curl 1", f"curl {IN_FLIGHT}"):
        for what in ("sent", "sent and read back"):
            ratios = [s[limit] / s[what] for s in seconds]
            told[f"{what}: ratio to {limit}"] = round(statistics.median(ratios), 2)
            told[f"{what}: ratios to {limit}"] = [round(r, 2) for r in ratios]
    return {"rounds": len(seconds), **told, "goal": GOAL, "peak RSS MB": peak_rss_mb()}


def make_bodies(folder: Path, scale: float) -> list[Path]:
    """Files of bulk requests of the product's size, and the same rows as Parquet."""
    engine = orders(folder, scale)
    engine.execute(
        f"copy (from orders order by order_id) to '{folder}/ready.parquet' (format parquet, compression zstd)"
    )
    identity, text = document_id(WHOLE_ORDERS.key), document(WHOLE_ORDERS)
    lines = engine.execute(
        f"""select '{{"index":{{"_id":' || to_json({identity})::varchar || '}}}}' || chr(10) || {text} || chr(10) """
        "from orders order by order_id"
    )
    bodies = []
    while rows := lines.fetchmany(CHUNK_ROWS):
        bodies.append(folder / f"{len(bodies):05}.ndjson")
        bodies[-1].write_text("".join(line for (line,) in rows))
    return bodies


def curl(settings: Settings, bodies: list[Path], rows: int, *, connections: int) -> float:
    """Seconds of one curl that posts all bodies, and of the refresh."""
    sink, index = new_sink(settings), f"bench-{uuid4().hex[:8]}"
    body = {"settings": INDEX_SETTINGS, "mappings": mapping(WHOLE_ORDERS, upserted=False)}
    sink.client.indices.create(index=index, **body)
    assert settings.elasticsearch_password
    secret = f'user = "{settings.elasticsearch_username}:{settings.elasticsearch_password.get_secret_value()}"'
    posts = [
        f'url = "{settings.elasticsearch_url}/{index}/_bulk?filter_path=errors"\ndata-binary = "@{file}"\n{secret}\n'
        'header = "content-type: application/x-ndjson"\noutput = "/dev/null"\nfail'
        for file in bodies
    ]
    parallel = ["--parallel", "--parallel-max", str(connections)] if connections > 1 else []
    started = time.monotonic()
    config = "\nnext\n".join(posts)
    subprocess.run(
        ["curl", "--silent", "--show-error", *parallel, "--config", "-"], input=config, text=True, check=True
    )
    sink.client.indices.refresh(index=index)
    took_s = time.monotonic() - started
    assert sink.client.count(index=index)["count"] == rows
    sink.client.indices.delete(index=index)
    return took_s


def new_sink(settings: Settings) -> ReplacingSink:
    return ReplacingSink(settings, "bench_orders", WHOLE_ORDERS.key, WHOLE_ORDERS, "elasticsearch.bench_orders")


def product(settings: Settings, engine: duckdb.DuckDBPyConnection, file: Path, rows: int) -> dict[str, float]:
    """Seconds of a partition's write, with and without reading it back."""
    sink, read_back, reread_s = new_sink(settings), elasticsearch_replace.reread, 0.0

    def timed(*arguments: Any) -> Any:
        nonlocal reread_s
        began = time.monotonic()
        found = read_back(*arguments)
        reread_s = time.monotonic() - began
        return found

    sink.ensure()
    with Ledger.open(settings) as ledger:
        attempt = f"bench-{uuid4().hex[:12]}"
        planned = PlannedPartition(WHOLE, "token", ledger.draw_epoch(), (), None)
        started = time.monotonic()
        with mock.patch.object(elasticsearch_replace, "reread", timed):
            written = sink.write(engine, ledger, attempt, planned, f"read_parquet('{file}')")
        whole_s = time.monotonic() - started
        assert (written.rows, written.rejected) == (rows, 0)
        sink.client.indices.delete(index=str(sink._index(WHOLE, planned.epoch, attempt)))
    return {"sent": whole_s - reread_s, "sent and read back": whole_s}


if __name__ == "__main__":
    main()
