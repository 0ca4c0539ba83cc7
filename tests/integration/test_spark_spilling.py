"""A partition that is larger than Spark's memory is sorted on disk, and is the same as by the embedded engine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = 400_000
SPILLING = """
import json, os, sys
from pyspark.sql import SparkSession
from etl_resources.contract import Contract, ContractColumn
from etl_resources.engines.embedded import connect_offline
from etl_resources.engines.spark_inputs import SparkRelation
from etl_resources.engines.spark_metrics import SparkMeasures
from etl_resources.engines.spark_session import MEANING
from etl_resources.engines.spark_transform import SparkOutput, run_on_spark
from etl_resources.engines.transform import Transform, run_transform
from etl_resources.quality.audit import read_back

folder, rows = sys.argv[1:]
os.environ["PYSPARK_PYTHON"] = sys.executable
columns = dict(id="bigint", part="bigint", text="string", amount="decimal(18,2)")
kinds = [ContractColumn(n, t, nullable=False) for n, t in columns.items()]
contract = Contract(tuple(kinds), ("id",), None)
sql = "select id, part, text, amount from bronze.many qualify row_number() over (partition by part order by id) > 0"
transform = Transform("silver.many", sql, contract, "bronze.many", None, "'auto'")
engine = connect_offline()
engine.execute(
    "copy (select (hash(i) // 1024)::bigint as id, i % 3 as part, repeat(md5(i::varchar), 3) as text, "
    f"(i * 0.01)::decimal(18,2) as amount from range({rows}) as t(i)) to '{folder}/many.parquet' (format parquet)"
)
inputs = {"bronze.many": f"read_parquet('{folder}/many.parquet')"}
run_transform(engine, transform, inputs, f"{folder}/ours.parquet", lambda e: {})
ours = read_back(engine, contract, f"read_parquet('{folder}/ours.parquet')")
builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
builder = builder.config("spark.driver.memory", "600m").config("spark.memory.fraction", "0.05")
spark = builder.config("spark.local.dir", folder).getOrCreate()
for name, value in MEANING.items():
    spark.conf.set(name, value)
measures = SparkMeasures()
relation = SparkRelation(f"select * from parquet.`file://{folder}/many.parquet`", columns)
output = SparkOutput(folder, {n: i for i, n in enumerate(columns, 1)}, {}, one_file=False)
theirs = run_on_spark(spark, transform, {"bronze.many": relation}, output, lambda _: {}, lambda: "", measures, "many")
files = ", ".join(f"'{p}'" for p in theirs.paths)
stored = read_back(engine, contract, f"read_parquet([{files}])")
print(json.dumps([[ours.rows, ours.version], [theirs.written, theirs.version], [stored.rows, stored.version],
                  measures.disk_spilled_bytes]))
"""


@pytest.mark.long
def test_a_partition_larger_than_memory_is_spilled_and_whole(tmp_path: Path, java: object) -> None:
    """About 50 MB of rows with 15 MB for all sorts: none is lost, none comes twice."""
    command = [sys.executable, "-c", SPILLING, str(tmp_path), str(ROWS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    ours, theirs, stored, spilled = json.loads(done.stdout.splitlines()[-1])
    assert ours == theirs == stored
    assert ours[0] == ROWS
    assert spilled > 10_000_000
