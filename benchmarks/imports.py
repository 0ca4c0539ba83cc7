"""Importing and building the definitions: seconds of a whole process, and which heavy libraries it loaded.

python -m benchmarks.imports [--rounds 5]        goal: at most 2.5 s, no heavy library
"""

import argparse
import statistics
import subprocess
import sys
import time

from benchmarks.harness import Result, save

HEAVY = ("pyspark", "polars", "pyarrow", "pyiceberg", "duckdb", "pandas")
CODE = f"""
import sys
from etl_assets.definitions import build_definitions
build_definitions().get_repository_def()
print([m for m in {HEAVY!r} if m in sys.modules])
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5)
    rounds = arguments.parse_args().rounds
    seconds, loaded = [], ""
    for _ in range(rounds):
        started = time.monotonic()
        run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
        seconds.append(time.monotonic() - started)
        loaded = run.stdout.strip()
    save(
        Result("imports", {"rounds": rounds, "s": round(statistics.median(seconds), 2), "heavy": loaded, "goal s": 2.5})
    )


if __name__ == "__main__":
    main()
