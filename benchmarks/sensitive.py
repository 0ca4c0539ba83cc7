"""What covering costs: local rows to bronze's Parquet as they are, with one column masked, with one hashed.

python -m benchmarks.sensitive [--rows 3000000] [--rounds 3]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.harness import Result, peak_rss_mb, save, tell
from etl_resources.contract import Contract, ContractColumn, Cover
from etl_resources.extract.batch_stream import DeliveredRows
from etl_resources.extract.delivered_rows import write_delivered
from etl_resources.sensitive import HashKey

COVERS = {"as they are": None, "masked": Cover("mask", "string"), "hashed": Cover("hash", "string")}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=3_000_000)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        save(Result("sensitive", measured(Path(folder), options.rows, options.rounds)))


def measured(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    engine = duckdb.connect(config={"threads": 2, "preserve_insertion_order": False, "memory_limit": "600MB"})
    given = folder / "given.parquet"
    mail = "'mail-' || (hash(i) % 1000000000) || '@example.com'"
    rows_of = f"select i as id, {mail} as email, (i % 997)::decimal(18,2) as amount from range({rows}) t(i)"
    engine.execute(f"copy ({rows_of}) to '{given}' (format parquet)")
    delivered = DeliveredRows(f"(select *, null::varchar as _unreadable from '{given}')", counted=rows)
    seconds: dict[str, list[float]] = {name: [] for name in COVERS}
    for n in range(rounds + 1):  # the first round warms up and is not counted
        for name, cover in COVERS.items():
            contract = Contract(
                (
                    ContractColumn("id", "bigint"),
                    ContractColumn("email", "string", cover=cover),
                    ContractColumn("amount", "decimal(18,2)"),
                ),
                ("id",),
                None,
            )
            started = time.monotonic()
            write_delivered(
                engine, "bronze.people", contract, delivered, str(folder / "written"), run_id="r",
                field_ids="{id: 1, email: 2, amount: 3, meta_run_id: 4}", keep_rejected=lambda _: {},
                key=HashKey(b"k" * 32),
            )  # fmt: skip
            took = time.monotonic() - started
            tell(f"round {n}, {name}: {took:.2f} s")
            seconds[name] += [took] if n else []
    figures = {f"{name}, rows/s": round(rows / statistics.median(found)) for name, found in seconds.items()}
    return {"rows": rows, "rounds": rounds, **figures, "peak MB": peak_rss_mb()}


if __name__ == "__main__":
    main()
