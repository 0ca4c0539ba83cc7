"""A Python function on batches of rows: exact types, one result however batches are cut, errors that say where."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_resources.contract import Contract, ContractColumn
from etl_resources.engines.batch_function import BatchStep
from etl_resources.engines.embedded import connect_offline
from etl_resources.engines.function_modules import FunctionError
from etl_resources.engines.transform import Transform, TransformResult, run_transform
from etl_resources.errors import PermanentError
from etl_resources.manifest_columns import Rule
from etl_resources.manifest_tables import Filter
from etl_resources.python_source import BatchFunction, read_function
from etl_resources.quality.audit import account_of
from etl_resources.quality.rules import REASON_TEXTS
from etl_resources.quality.second_judge import read_result
from etl_resources.spark_errors import spark_error
from etl_resources.tables.schema import duckdb_type

TYPES = {
    "id": "bigint", "i": "int", "d": "decimal(18,2)", "t": "string", "day": "date", "seen": "timestamptz",
    "ok": "boolean",
}  # fmt: skip
CONTRACT = Contract(
    (
        ContractColumn("id", "bigint", nullable=False),
        *(ContractColumn(n, kind) for n, kind in TYPES.items() if n != "id"),
    ),
    ("id",),
    None,
)
ROWS = """
    (1, 7, 2.50, 'Straße', '2024-02-29', '2024-02-29 23:59:59.999999Z', true),
    (2, -2147483648, -99999999999999.99, ' a ', '0001-01-01', '0001-01-01 00:00:00Z', false),
    (3, 2147483647, 0, '', '9999-12-31', '9999-12-31 23:59:59.999999Z', null),
    (9223372036854775807, null, null, null, null, null, null)
"""
AS_IT_IS = "def f(frame):\n    return frame\n"
TYPED = ", ".join(f"{n}::{duckdb_type(kind)} as {n}" for n, kind in TYPES.items())
GIVEN = f"(select {TYPED} from (values {ROWS}) as v({', '.join(TYPES)}))"


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], BatchFunction]:
    """A function `f` of a module with this text."""

    def write(text: str) -> BatchFunction:
        path = tmp_path / "datasets" / "rows" / "clean.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        found, errors = read_function(tmp_path / "datasets", path, "f")
        assert found is not None, errors
        return found

    return write


Run = Callable[..., TransformResult]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A transform over the table expression `given`; rejected rows go into the list `kept`."""

    def transform_rows(transform: Transform, given: str = GIVEN, **more: Any) -> TransformResult:
        kept = more.pop("kept", [])

        def keep(engine: duckdb.DuckDBPyConnection) -> dict[str, int]:
            query = f"select _payload::varchar, {REASON_TEXTS} from judged where len(_reasons) > 0 order by all"
            kept.extend(engine.execute(query).fetchall())
            return {"rows": len(kept)}

        with connect_offline() as engine:
            path = f"{tmp_path}/out.parquet"
            result = run_transform(engine, transform, {"bronze.rows": given}, path, keep, **more)
            read_result(engine, transform.contract, f"read_parquet('{path}')", result)
            return result

    return transform_rows


def of(function: BatchFunction | None, **changes: Any) -> Transform:
    ids = ", ".join(f"{n}: {i}" for i, n in enumerate(changes.get("contract", CONTRACT).names, 1))
    return replace(
        Transform("silver.rows", "select * from bronze.rows;", CONTRACT, "bronze.rows", "id", f"{{{ids}}}"),
        **{"function": function, **changes},
    )


def test_values_pass_a_function_unchanged(written: Callable[[str], BatchFunction], run: Run) -> None:
    """Of every type, at both ends, and nulls: with the content hash of the same rows by SQL alone."""
    ours = run(of(written(AS_IT_IS)))
    assert (ours.version, ours.written) == (run(of(None)).version, 4)


@pytest.mark.parametrize("rows", [1, 2, 3, 1000])
def test_batches_are_cut_as_asked(rows: int, written: Callable[[str], BatchFunction], run: Run) -> None:
    """Of one row to a thousand, across the engine's own batches of 2,048: every row once."""
    text = f"def f(frame):\n    assert 0 <= frame.height <= {rows}\n    return frame\n"
    contract = Contract(CONTRACT.columns[:1], ("id",), None)
    count = 5000 if rows == 1000 else 50
    result = run(of(written(text), contract=contract), f"(select i as id from range({count}) t(i))", batch_rows=rows)
    assert result.written == result.produced == count


def test_a_partition_without_rows_has_a_file(written: Callable[[str], BatchFunction], run: Run) -> None:
    """It keeps the epoch, and its columns have the types of the contract."""
    result = run(of(written(AS_IT_IS)), f"(from {GIVEN} where false)")
    assert result.written == 0
    columns = duckdb.execute(f"describe from read_parquet('{result.paths[0]}')").fetchall()
    assert [c[0] for c in columns] == list(CONTRACT.names)


def test_texts_are_parsed_and_rules_judge_what_a_function_gives(
    written: Callable[[str], BatchFunction], run: Run
) -> None:
    """As with SQL: a row that breaks the contract is a dead letter; its payload is what the function gave."""
    contract = Contract(
        (ContractColumn("id", "bigint", nullable=False), ContractColumn("d", "decimal(18,2)", rules=(Rule(ge=0),))),
        ("id",),
        None,
    )
    text = "import polars as pl\ndef f(frame):\n    return frame.select('id', d=pl.col('t').str.replace(',', '.'))\n"
    kept: list[Any] = []
    given = "(values (1, '1,50'), (2, '-1'), (3, 'x'), (4, '1,505'), (5, null)) as v(id, t)"
    result = run(of(written(text), contract=contract), given, kept=kept)
    assert (result.written, result.rejected) == (2, 3)
    assert [reasons for _, reasons in kept] == [
        ["d is not >= 0"],
        ["d is not a decimal(18,2)"],
        ["d is not a decimal(18,2)"],
    ]
    assert kept[1][0] == "{'id': 3, 'd': x}"


def test_rows_that_a_function_drops_are_lost_unless_a_filter_says_so(
    written: Callable[[str], BatchFunction], run: Run
) -> None:
    """What is left out on purpose is stated; everything else stops the publish."""
    text = "import polars as pl\ndef f(frame):\n    return frame.filter(pl.col('ok').is_not_null())\n"
    transform = of(written(text))
    assert account_of(run(transform), transform).lost == 2
    stated = replace(transform, filters=(Filter(name="unknown", expression="ok is null", reason="not known"),))
    assert account_of(run(stated), stated).lost == 0


WRONG = {
    "raises": (
        "assert frame.height < 3, 'too many'\n    return frame",
        "in rows 1 to 4, failed: AssertionError: too many (", "clean.py:3: `assert frame.height < 3, 'too many'`).",
    ),
    "ends the process": ("import sys\n    if frame.height: sys.exit(0)\n    return frame", "failed: SystemExit: 0", ""),
    "panics": (
        "if frame.height: raise pl.exceptions.PanicException('at the disco')\n    return frame",
        "in rows 1 to 4, failed: PanicException: at the disco", "",
    ),
    "nothing": ("frame.height", "without rows, gave a NoneType, must be a polars DataFrame", ""),
    "another type with rows": (
        "return frame.with_columns(t=pl.lit(1)) if frame.height else frame",
        "in rows 1 to 4, gave column t as Int32, and the contract says string", "",
    ),
    "text only with rows": (
        "return frame.with_columns(day=pl.lit('2024-01-01')) if frame.height else frame",
        "in rows 1 to 4, gave column day as String, and as another type without rows", "return_dtype",
    ),
    "a number too large": (
        "return frame.with_columns(i=pl.col('id'))", "gave a value in column i that no int holds: ",
        "9223372036854775807",
    ),
    "a decimal too large": (
        "return frame.with_columns(d=pl.col('id').cast(pl.Decimal(38, 2)))",
        "gave a value in column d that no decimal(18,2) holds: ", "precision 18",
    ),
    "a decimal that would be rounded": (
        "return frame.with_columns(d=pl.col('d').cast(pl.Decimal(38, 3)))",
        "gave column d as Decimal(precision=38, scale=3), and the contract says decimal(18,2): cast it, with the", "",
    ),
    "a time without a zone": (
        "return frame.with_columns(seen=pl.col('seen').dt.replace_time_zone(None))",
        "gave column seen as Datetime", "",
    ),
    "nanoseconds": (
        "return frame.with_columns(seen=pl.col('seen').dt.cast_time_unit('ns'))", "gave column seen as Datetime", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_what_a_function_does_wrong_ends_the_run_and_is_told(
    case: tuple[str, str, str], written: Callable[[str], BatchFunction], run: Run
) -> None:
    """Which table, function, rows and line; permanent, because the same rows would do it again."""
    function = written(f"import polars as pl\ndef f(frame):\n    {case[0]}\n")
    with pytest.raises(FunctionError) as raised:
        run(of(function))
    assert isinstance(raised.value, PermanentError)
    message = str(raised.value)
    assert message.startswith("silver.rows: clean.py:f, ")
    assert case[1] in message, message
    assert case[2] in message, message
    assert "\n" not in message


def test_a_column_of_the_sql_that_no_frame_should_have_is_refused(
    written: Callable[[str], BatchFunction], run: Run
) -> None:
    """A float would bring its rounding into what is judged as exact."""
    with pytest.raises(PermanentError, match=r"silver.rows: column d of its SQL is a DOUBLE, which a Python function"):
        run(of(written(AS_IT_IS), sql="select * replace (d::double as d) from bronze.rows"))


def test_both_engines_give_a_function_the_same_types(written: Callable[[str], BatchFunction]) -> None:
    """Whole numbers are 64 bits wide, whichever width an engine computes with; sums of them are decimals."""
    described = {"id": "BIGINT", "i": "INTEGER", "n": "HUGEINT", "d": "DECIMAL(18,2)"}
    step = BatchStep.of("silver.rows", written("def f(frame):\n    return frame.select('id')\n"), described,
                        Contract(CONTRACT.columns[:1], ("id",), None))  # fmt: skip
    assert step.given == {"id": "bigint", "i": "bigint", "n": "decimal(38,0)", "d": "decimal(18,2)"}


def test_other_packages_than_planned_compute_nothing(written: Callable[[str], BatchFunction], run: Run) -> None:
    """Their rows would be published under the token of the ones that were planned with."""
    function = replace(written(AS_IT_IS), packages={"polars": "0.0.1"})
    with pytest.raises(FunctionError, match=r"was planned with polars 0.0.1, and here it is \d.*same packages"):
        run(of(function))


def test_what_runs_is_what_was_hashed(written: Callable[[str], BatchFunction], run: Run) -> None:
    """A file that changes under a run decides nothing, and the next one sees it."""
    planned = written(AS_IT_IS)
    changed = written("import polars as pl\ndef f(frame):\n    return frame.with_columns(ok=pl.lit(True))\n")
    assert run(of(planned)).version == run(of(None)).version != run(of(changed)).version
    assert planned.logic != changed.logic


def test_an_error_in_an_executor_is_told_as_one_of_the_embedded_engine() -> None:
    """Spark wraps it in its own, with the trace of two languages."""
    text = (
        "An exception was thrown from the Python worker.\nTraceback (most recent call last):\n"
        '  File "x.py", line 1, in f\nConnectionRefusedError: no network\n\nDuring handling:\n'
        "etl_resources.engines.function_modules.FunctionError: silver.rows: clean.py:f, in rows 1 to 2 of task 0\n"
    )
    error = type("PythonException", (Exception,), {"__module__": "pyspark.errors"})(text)
    found = spark_error(error, "silver.rows, partition 2024-01")
    assert isinstance(found, FunctionError)
    assert str(found) == "silver.rows: clean.py:f, in rows 1 to 2 of task 0"
