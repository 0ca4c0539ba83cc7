"""Rows are typed, rejected, ranked and counted by Spark as by the embedded engine."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from etl_resources.contract import Contract, ContractColumn
from etl_resources.engines.embedded import connect_offline
from etl_resources.engines.spark_inputs import SparkRelation
from etl_resources.engines.spark_metrics import SparkMeasures
from etl_resources.engines.spark_session import spark_session
from etl_resources.engines.spark_transform import SparkOutput, run_on_spark
from etl_resources.engines.transform import JUDGED, Transform, TransformResult, run_transform
from etl_resources.errors import PermanentError
from etl_resources.identifiers import literal
from etl_resources.manifest_columns import RowRule, Rule
from etl_resources.manifest_tables import Conserve, Filter
from etl_resources.quality.second_judge import read_result
from etl_resources.settings import load_settings
from tests.integration.test_spark_parity import SIZE

if TYPE_CHECKING:
    import duckdb
    from pyspark.sql import SparkSession

READ = {"k": "string", "n": "string", "d": "string", "a": "string", "t": "string", "v": "bigint"}
CONTRACT = Contract(
    (
        ContractColumn("k", "bigint", nullable=False),
        ContractColumn("n", "int", rules=(Rule(ge=0),)),
        ContractColumn("d", "date"),
        ContractColumn("a", "decimal(18,2)", nullable=False, reason="no amount", rules=(Rule(le="100.5"),)),
        ContractColumn("t", "string", rules=(Rule(isin=("x", "it's", "a\\b")), Rule(matches="[a-z']+|a.b"))),
        ContractColumn("v", "bigint"),
    ),
    ("k",),
    None,
    rules=(RowRule(name="later", expression="v > n or n is null", reason="v comes later"),),
)
SQL = "select * from bronze.deliveries"
ROWS = [
    ("1", "5", "2024-01-05", "10.10", "x", 9), ("1", "6", "2024-1-5", "10.1", "it's", 10),
    (" 2 ", "+7", None, "100.50", "a\\b", 8), ("3", "-1", "2024-02-30", "100.51", "y", 1),
    ("x", "1.5", "05.01.2024", "1.005", "X", 2), (None, None, None, None, None, None),
    ("4", "99999999999", "0001-01-01", "99999999999999999.00", "x", 3), ("5", "", "", "", "", 4),
    ("6", "1", "9999-12-31", ".5", "x", 2), ("6", "1", "9999-12-31", "5.", "x", 2),
    ("7", "1", "2024-01-05 ", "-0", "x", 0), ("8", None, None, "1e3", "x", 1),
    ("9", "1", "2024-01-05", "1.100000", "x", None),
]  # fmt: skip


@pytest.fixture(scope="module")
def spark(stack: object, java: object) -> "Iterator[SparkSession]":
    """Local."""
    with spark_session(load_settings(), SIZE) as session:
        yield session


class Judged:
    """The same transform by both engines, on rows of text."""

    def __init__(self, spark: "SparkSession", engine: "duckdb.DuckDBPyConnection", folder: Path) -> None:
        self._spark, self._engine, self._folder = spark, engine, folder

    def run(self, transform: Transform, rows: Sequence[tuple[Any, ...]]) -> tuple[Any, Any]:
        """(result, reasons by row, good rows) of the embedded engine, and of Spark."""
        path = str(self._folder / "read.parquet")
        columns = ", ".join(f"{n} {'bigint' if kind == 'bigint' else 'varchar'}" for n, kind in READ.items())
        self._engine.execute(f"create or replace table given ({columns})")
        if rows:
            self._engine.executemany(f"insert into given values ({', '.join('?' * len(READ))})", rows)
        self._engine.execute(f"copy given to {literal(path)} (format parquet)")
        inputs = {"bronze.deliveries": f"read_parquet({literal(path)})"}
        kept: list[Any] = []
        ours = run_transform(
            self._engine, transform, inputs, str(self._folder / "ours.parquet"), lambda e: self._keep(e, kept)
        )
        read_result(self._engine, transform.contract, f"read_parquet({literal(ours.paths[0])})", ours)
        theirs_kept: list[Any] = []

        def keep(paths: Sequence[str]) -> Mapping[str, int]:
            files = ", ".join(map(literal, paths))
            self._engine.execute(f"create or replace view {JUDGED} as select * from read_parquet([{files}])")
            found = self._keep(self._engine, theirs_kept)
            self._engine.execute(f"drop view {JUDGED}")
            return found

        relation = SparkRelation(f"select * from parquet.`file://{path}`", READ)
        output = SparkOutput(
            str(self._folder), {n: i for i, n in enumerate(transform.contract.names, 1)}, {}, one_file=False
        )
        theirs = run_on_spark(
            self._spark,
            transform,
            {"bronze.deliveries": relation},
            output,
            keep,
            lambda: str(self._folder / "ours.parquet"),
            SparkMeasures(),
            "judged",
        )
        return (ours, kept, self._good(ours)), (theirs, theirs_kept, self._good(theirs))

    @staticmethod
    def _keep(engine: "duckdb.DuckDBPyConnection", kept: list[Any]) -> Mapping[str, int]:
        query = f"select _payload::varchar, _reasons::varchar from {JUDGED} where len(_reasons) > 0 order by all"
        kept += engine.execute(query).fetchall()
        return {"rows": len(kept)}

    def _good(self, result: TransformResult) -> list[Any]:
        files = ", ".join(map(literal, result.paths))
        return self._engine.execute(f"select * from read_parquet([{files}]) order by all").fetchall()


@pytest.fixture
def judged(spark: "SparkSession", tmp_path: Path) -> "Judged":
    """An engine of each kind."""
    return Judged(spark, connect_offline(), tmp_path)


def transform(**changed: Any) -> Transform:
    return Transform(**{
        "asset": "silver.deliveries", "sql": SQL, "contract": CONTRACT, "grain": "bronze.deliveries",
        "deduplicate_by": "v", "field_ids": "'auto'", **changed,
    })  # fmt: skip


FACTS = ("produced", "rejected", "deduplicated", "written", "version", "inputs", "filters", "missed", "sums", "reasons")


def test_rows_are_judged_alike(judged: Judged) -> None:
    """Types, required values, rules and duplicates: what is good, what isn't, and why, in the same words."""
    conserve = Conserve.model_validate({"of": "bronze.deliveries", "sums": {"v": "v"}})
    left_out = (Filter.model_validate({"name": "nines", "expression": "k = '9'", "reason": "no"}),)
    wanted = transform(sql=f"{SQL} where k is distinct from '9'", filters=left_out, conserve=conserve)
    (ours, kept, good), (theirs, theirs_kept, theirs_good) = judged.run(wanted, ROWS)
    assert kept
    assert theirs_kept == kept
    assert theirs_good == good
    assert {n: getattr(theirs, n) for n in FACTS} == {n: getattr(ours, n) for n in FACTS}
    assert ours.deduplicated
    assert ours.filters == {"nines": 1}


def test_no_rows_are_judged_alike(judged: Judged) -> None:
    """An emptied partition keeps its epoch by a file that the driver writes."""
    (ours, *_), (theirs, _, good) = judged.run(transform(), [])
    assert (theirs.version, theirs.written, good) == (ours.version, 0, [])


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select k, n, d, a, t, v::decimal(38, 0) as v from bronze.deliveries", "column v is .* says bigint.*rounding"),
        ("select k, n, d, a, t from bronze.deliveries", "gives no column v"),
        ("select *, v / 2 as w from bronze.deliveries", "line 1 of its SQL: .*divide differently.*size without Spark"),
    ],
)
def test_what_cant_be_judged_is_refused(sql: str, message: str, judged: Judged) -> None:
    """Before a row is read."""
    spark, engine, folder = judged._spark, judged._engine, judged._folder
    engine.execute("create or replace table given (k varchar, n varchar, d varchar, a varchar, t varchar, v bigint)")
    engine.execute(f"copy given to {literal(str(folder / 'read.parquet'))} (format parquet)")
    relation = SparkRelation(f"select * from parquet.`file://{folder / 'read.parquet'}`", READ)
    output = SparkOutput(str(folder), {n: i for i, n in enumerate(CONTRACT.names, 1)}, {}, one_file=True)
    with pytest.raises(PermanentError, match=message):
        run_on_spark(
            spark,
            transform(sql=sql),
            {"bronze.deliveries": relation},
            output,
            lambda _: {},
            lambda: "",
            SparkMeasures(),
            "refused",
        )
