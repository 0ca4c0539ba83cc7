"""Memory is bounded by batch and engine settings, not by the size of a partition: each measured in its own process."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)

PROGRAM = """
import sys
from pathlib import Path
import duckdb
from etl_resources.contract import Contract, ContractColumn
from etl_resources.python_source import read_function
from tests.peak_memory import peak_mb
from etl_resources.engines.transform import Transform, run_transform

rows, folder, function = int(sys.argv[1]), Path(sys.argv[2]), None
if sys.argv[3:]:
    module = folder / "t" / "clean.py"
    module.parent.mkdir()
    module.write_text(sys.argv[3])
    function, errors = read_function(folder, module, "clean")
    assert function, errors
types = {"id": "bigint", "day": "date", "text": "string", "amount": "decimal(18,2)"}
contract = Contract(tuple(ContractColumn(n, t) for n, t in types.items()), ("id",), "day")
engine = duckdb.connect(config={
    "threads": 1, "memory_limit": "300MB", "temp_directory": str(folder / "spill"), "preserve_insertion_order": False,
})
engine.execute("set enable_progress_bar = false")
engine.execute(f'''
    copy (select i as id, date '2024-01-01' + (i % 28)::int as day, md5(i::text) || md5((i + 1)::text) as text,
                 (i % 1000)::decimal(18,2) as amount
          from range({rows}) t(i)) to '{folder}/in.parquet' (format parquet)''')
ids = "{id: 1, day: 2, text: 3, amount: 4}"
transform = Transform("silver.t", "select * from bronze.t", contract, "bronze.t", "id", ids, function=function)
inputs = {"bronze.t": f"read_parquet('{folder}/in.parquet')"}
result = run_transform(engine, transform, inputs, f"{folder}/out.parquet", lambda engine: {})
assert result.written == rows, result
print(peak_mb())
"""

SMALL, LARGE = 500_000, 4_000_000


def _peak_mb(rows: int, folder: Path, *function: str) -> int:
    folder.mkdir()
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(rows), str(folder), *function], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


def test_a_partition_eight_times_as_large_takes_no_more_memory(tmp_path: Path) -> None:
    """4 million rows of 64 characters are 350 MB; an engine of 300 MB must spill them, not grow with them."""
    small, large = _peak_mb(SMALL, tmp_path / "small"), _peak_mb(LARGE, tmp_path / "large")
    assert large < 700, (small, large)
    assert large - small < 250, (small, large)


def test_a_python_function_is_given_batches(tmp_path: Path) -> None:
    """It never sees the partition whole: one of eight times as many rows takes no more memory."""
    clean = "def clean(frame):\n    return frame.with_columns(text=frame['text'].str.to_uppercase())\n"
    small, large = (_peak_mb(rows, tmp_path / f"{rows}", clean) for rows in (SMALL, LARGE))
    assert large < 900, (small, large)
    assert large - small < 250, (small, large)
