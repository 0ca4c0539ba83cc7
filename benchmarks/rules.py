"""What rules cost: order lines through a silver step with 0, 5 and 20 rules, on local files.

A step is what `run_transform` does (read, type, judge, sort, write Parquet, hash) and the audit (read back, judge again
by pandera). CPU seconds of the process, so that other work on the machine counts less; the variants take turns.

    python -m benchmarks.rules [--rows 1000000] [--rounds 5]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.harness import Result, peak_rss_mb, save, tell
from etl_resources.contract import Contract, ContractColumn
from etl_resources.engines.transform import Transform, run_transform
from etl_resources.manifest_columns import Length, RowRule, Rule
from etl_resources.quality.audit import account_of, audit_transform
from etl_resources.quality.second_judge import read_result
from etl_resources.tables.schema import duckdb_type

GOAL = 1.3
TYPES = {
    "order_id": "bigint",
    "line_number": "int",
    "order_date": "date",
    "ship_date": "date",
    "quantity": "decimal(15,2)",
    "price": "decimal(15,2)",
    "discount": "decimal(15,2)",
    "tax": "decimal(15,2)",
    "currency": "string",
    "status": "string",
}
RULES: Sequence[tuple[str, Rule]] = (
    ("line_number", Rule(ge=1)),
    ("quantity", Rule(gt=0)),
    ("price", Rule(ge=0)),
    ("currency", Rule(matches="[A-Z]{3}")),
    ("status", Rule(isin=("O", "F", "P"))),
    ("order_id", Rule(ge=1)),
    ("order_id", Rule(lt=10**15)),
    ("line_number", Rule(le=50)),
    ("order_date", Rule(ge="1990-01-01")),
    ("order_date", Rule(lt="2100-01-01")),
    ("ship_date", Rule(ge="1990-01-01")),
    ("ship_date", Rule(lt="2100-01-01")),
    ("quantity", Rule(le="10000.00")),
    ("price", Rule(lt="10000000.00")),
    ("discount", Rule(ge=0)),
    ("discount", Rule(le=1)),
    ("tax", Rule(ge=0)),
    ("currency", Rule(isin=("EUR", "USD", "CHF", "GBP"))),
    ("status", Rule(length=Length(ge=1, le=1))),
)
SHIPPED = RowRule(name="shipped_after_order", expression="ship_date >= order_date")
"""The twentieth."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        save(Result("rules", measured(Path(folder), options.rows, options.rounds)))


def measured(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    engine = duckdb.connect(config={"threads": 1, "preserve_insertion_order": False, "memory_limit": "2GB"})
    engine.execute("set timezone = 'UTC'")
    bronze = folder / "bronze.parquet"
    engine.execute(f"copy ({lines(rows)}) to '{bronze}' (format parquet, compression zstd)")
    seconds: dict[int, list[float]] = {0: [], 5: [], 20: []}
    audits: dict[int, list[float]] = {0: [], 5: [], 20: []}
    for n in range(rounds + 1):  # the first round warms up and is not counted
        for rules in seconds:
            step_s, audit_s = step(engine, contract(rules), str(bronze), folder / "silver.parquet")
            tell(f"round {n}, {rules} rules: step {step_s:.2f} s, of it read and judged again {audit_s:.2f} s of CPU")
            if n:
                seconds[rules].append(step_s)
                audits[rules].append(audit_s)
    figures: dict[str, Any] = {"rows": rows, "columns": len(TYPES), "rounds": rounds}
    for rules, found in seconds.items():
        figures[f"{rules} rules, rows/CPU s"] = round(rows / statistics.median(found))
        figures[f"{rules} rules, read and judged again CPU s"] = round(statistics.median(audits[rules]), 2)
    for rules in (5, 20):
        ratios = [a / b for a, b in zip(seconds[rules], seconds[0], strict=True)]
        figures[f"{rules} rules / none"] = round(statistics.median(ratios), 2)
    return {**figures, "goal 20 rules / none": GOAL, "peak MB": peak_rss_mb()}


def contract(rules: int) -> Contract:
    of_columns = RULES[:rules]
    columns = tuple(
        ContractColumn(n, t, rules=tuple(rule for column, rule in of_columns if column == n)) for n, t in TYPES.items()
    )
    return Contract(columns, ("order_id", "line_number"), None, (SHIPPED,) if rules > len(RULES) else ())


def step(engine: duckdb.DuckDBPyConnection, of: Contract, bronze: str, silver: Path) -> tuple[float, float]:
    """(CPU seconds of the whole step, of it those of reading back and judging again); nothing is rejected."""
    ids = "{" + ", ".join(f"{n}: {i}" for i, n in enumerate(TYPES, start=1)) + "}"
    sql = f"select {', '.join(TYPES)} from bronze.lines"
    transform = Transform("silver.lines", sql, of, "bronze.lines", "order_date", ids)
    started = time.process_time()
    inputs = {"bronze.lines": f"read_parquet('{bronze}')"}
    result = run_transform(engine, transform, inputs, str(silver), lambda _: {})
    scan = f"read_parquet('{silver}')"
    again = time.process_time()
    stored, held = read_result(engine, of, scan, result)
    done = time.process_time()
    checks = [*audit_transform(result, stored, account_of(result, transform), ()), held]
    assert all(check.passed for check in checks), checks
    return done - started, done - again


def lines(rows: int) -> str:
    values = {
        "order_id": "1 + i // 4",
        "line_number": "1 + i % 4",
        "order_date": "date '2024-01-01' + (i % 31)::int",
        "ship_date": "date '2024-01-03' + (i % 60 + i % 31)::int",
        "quantity": "1 + hash(i) % 50",
        "price": "(hash(i + 1) % 10000000)::decimal(15,2) / 100",
        "discount": "(i % 11)::decimal(15,2) / 100",
        "tax": "(i % 9)::decimal(15,2) / 100",
        "currency": "['EUR', 'USD', 'CHF', 'GBP'][1 + i % 4]",
        "status": "['O', 'F', 'P'][1 + i % 3]",
    }
    columns = ", ".join(f"({sql})::{duckdb_type(TYPES[name])} as {name}" for name, sql in values.items())
    return f"select {columns} from range({rows}) as t(i)"


if __name__ == "__main__":
    main()
