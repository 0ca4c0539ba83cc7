"""All rows are bad: letters are streamed into files, so memory and the ledger don't grow with them."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

ENGINE_MB = 400
PROGRAM = """
import json, sys, time
from etl_resources.contract import Contract, ContractColumn
from tests.peak_memory import peak_mb
from etl_resources.dead_letters.address import LettersAddress
from etl_resources.dead_letters.index import files, rejected_by_reason
from etl_resources.dead_letters.writing import Letters
from etl_resources.engines.embedded import connect
from etl_resources.engines.transform import JUDGED, Transform, run_transform
from etl_resources.ledger.ledger import Ledger
from etl_resources.manifest_columns import Rule
from etl_resources.settings import load_settings
from etl_resources.tables.table_store import TableStore

rows, folder, name, engine_mb = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
settings = load_settings()
contract = Contract(
    (ContractColumn("id", "bigint", nullable=False), ContractColumn("day", "date"), ContractColumn("text", "string"),
     ContractColumn("amount", "decimal(18,2)", rules=(Rule(ge=0),))), ("id",), "day")
address = LettersAddress(name, True, "bounded", "pp-dw-test")
seconds = []
with connect(settings, threads=2, memory_mb=engine_mb) as engine, Ledger.open(settings) as ledger:
    engine.execute(f'''
        copy (select i as id, date '2024-01-01' + (i % 28)::int as day, md5(i::text) || md5((i + 1)::text) as text,
                     -1 - (i % 1000)::decimal(18,2) as amount
              from range({rows}) t(i)) to '{folder}/in.parquet' (format parquet)''')
    transform = Transform("silver.t", "select * from bronze.t", contract, "bronze.t", None, "'auto'")
    for epoch in (1, 2):  # the second time each is found among those before
        attempt = f"run-{epoch}00000000000"
        letters = Letters(TableStore(settings, "pp-dw-test"), ledger, address, attempt, "run", "bronze.t")
        started = time.monotonic()
        result = run_transform(
            engine, transform, {"bronze.t": f"read_parquet('{folder}/in.parquet')"}, f"{folder}/out.parquet",
            lambda e: letters.write(e, JUDGED, ("id",), partition="2024-01", epoch=epoch, token="t"),
        )
        letters.commit()
        seconds.append(round(time.monotonic() - started, 1))
        assert (result.rejected, dict(result.reasons)) == (rows, {"amount is not >= 0": rows}), result
        ledger.connection.execute(
            "insert into etl.publishes "
            "(asset, partition, epoch, token, version, rows, size_bytes, inputs, attempt, run_id) "
            "values (%s, '2024-01', %s, 't', 'v', 0, 0, '[]', %s, 'run')", (name, epoch, attempt))
    (file,) = files(ledger.connection, "current", [name])
    found = engine.execute("select count(*), min(seen), max(seen), count(distinct letter) from read_parquet(?)",
                           [file.path]).fetchone()
    assert found == (rows, 2, 2, rows), found
    counted = "select count(*) from etl.dead_letter_reasons where asset = %s"
    index = ledger.connection.execute(counted, (name,)).fetchone()
peak = peak_mb()
print(json.dumps({"peak_mb": peak, "index_rows": index[0], "seconds": seconds}))
"""


@dataclass(frozen=True)
class Rejected:
    """What it took to reject some rows twice: memory at its highest, rows of the ledger's index, seconds."""

    peak_mb: int
    index_rows: int
    seconds: list[float]


def reject(rows: int, folder: Path) -> Rejected:
    """In a process of its own."""
    folder.mkdir()
    arguments = [sys.executable, "-c", PROGRAM, str(rows), str(folder), f"silver.t_{uuid4().hex[:8]}", str(ENGINE_MB)]
    run = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return Rejected(**json.loads(run.stdout))


@pytest.mark.timeout(300)
def test_five_times_as_many_bad_rows_take_no_more_memory(stack: object, tmp_path: Path) -> None:
    """And as many rows of the index: one per attempt and reason."""
    small, large = reject(60_000, tmp_path / "small"), reject(300_000, tmp_path / "large")
    assert large.peak_mb - small.peak_mb < ENGINE_MB, (small, large)
    assert large.peak_mb < 1000, (small, large)
    assert small.index_rows == large.index_rows == 2


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_six_million_bad_rows_stay_within_one_and_a_half_gigabytes(stack: object, tmp_path: Path) -> None:
    """A month of a large source, all of it bad, twice."""
    found = reject(6_000_000, tmp_path / "all")
    assert found.peak_mb < 1500, found
    assert found.index_rows == 2
