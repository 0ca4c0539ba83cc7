"""Python functions through the whole protocol, and the same function on both engines."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_assets.project import load_project
from etl_assets.transform_tests.cases import load_case
from etl_assets.transform_tests.run import run_cases
from etl_resources.ledger.ledger import Ledger
from tests.integration.test_spark_runs import LARGE, recomputed
from tests.invariants import prove_whole
from tests.lake import Lake, new_lake
from tests.projects import SALES
from tests.unit.project_edits import ORDERS, edit

pytest_plugins = ["tests.lake"]
MONTH, OTHER_MONTH, SILVER = "2024-05", "2024-06", "silver/sales_orders"
CLEAN = """\
import polars as pl

from .texts import upper


def clean(frame: pl.DataFrame) -> pl.DataFrame:
    \"\"\"As the SQL of this table; what it is given, bronze.sales_orders, has more columns.\"\"\"
    return frame.select(
        "order_id", "customer_id", pl.col("nation").str.strip_chars(), "order_date", upper("status"),
        pl.col("priority").str.replace("^[0-9]-", "").str.strip_chars(), upper("currency"), "total_price", "updated_at",
    )
"""
TEXTS = "import polars as pl\n\n\ndef upper(name):\n    return pl.col(name).str.strip_chars().str.to_uppercase()\n"
TEST = """\
partition: 2024-05
defaults:
  bronze.sales_orders: {customer_id: 1, nation: FRANCE, status: O, currency: EUR, total_price: 1,
                        updated_at: "2024-05-07T00:00:00Z", order_date: 2024-05-06}
given:
  bronze.sales_orders:
    - {order_id: 1, status: " f", priority: 1-URGENT}
    - {order_id: 2, currency: dollar}
    - {order_id: 3, priority: 5-LOW}
    - {order_id: 4}
expect:
  - {order_id: 1, status: F, priority: URGENT}
  - {order_id: 3, priority: LOW}
  - {order_id: 4, priority: null}
rejected:
  - {key: {order_id: 2}, reason: "currency does not match [A-Z]{3}"}
"""


def with_python(folder: Path, clean: str = CLEAN) -> Path:
    """A copy of the sales project whose orders are cleaned by Python."""
    root = Path(shutil.copytree(SALES, folder / "sales" / "etl_assets"))
    edit(root / ORDERS, "  sql: silver.sql\n", "  python: clean.py:clean\n")
    orders = root / "datasets" / "sales_orders"
    (orders / "clean.py").write_text(clean)
    (orders / "texts.py").write_text(TEXTS)
    (orders / "tests").mkdir()
    (orders / "tests" / "cleaned.yaml").write_text(TEST)
    return root


@pytest.fixture(scope="module")
def lake(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Whose orders are cleaned by Python."""
    root = with_python(tmp_path_factory.mktemp("project"))
    with new_lake(tmp_path_factory.mktemp("lake"), project=root) as made:
        yield made


def test_what_python_makes_is_what_sql_would(lake: Lake, java: object) -> None:
    """The KPI is that of the ERP; computed again by Spark, the rows that DuckDB published have the same hash."""
    run = lake.materialize(MONTH)
    assert run.success, run.error
    assert lake.published_kpi(MONTH) == lake.oracle(MONTH)
    prove_whole(lake)
    runtime = lake.runtime
    node = runtime.project.tables["silver.sales_orders"]
    with Ledger.open(runtime.settings) as ledger:
        publish = ledger.current(node.name, [MONTH])[MONTH]
        found = recomputed(runtime, ledger, node, publish)
    assert found == (publish.version, publish.rows, publish.counts["rejected"], 0, publish.version)
    (engine,) = lake.platform(
        "select distinct p.staged ->> 'engine' from etl.intent_partitions p join etl.intents i using (attempt) "
        "where i.asset = 'silver.sales_orders'"
    )
    assert "duckdb" in engine[0]
    assert "polars" in engine[0]


def test_an_error_of_a_function_publishes_nothing_and_says_where(lake: Lake, java: object, tmp_path: Path) -> None:
    """By either engine: partition, function, rows, the line of the file, and it isn't tried again."""
    wrong = CLEAN.replace("    return frame", "    assert frame.height == 0, 'refused'\n    return frame")
    root = with_python(tmp_path, wrong)
    before = lake.rows(SILVER, "count(*), max(order_id)")
    for size in ({}, LARGE):
        run = lake.materialize(MONTH, selection=[SILVER], ETL_PROJECT=str(root), **size)
        assert not run.success
        of_task = " of task 0" if size else ""
        assert f"partition {MONTH} of silver.sales_orders: clean.py:clean, in rows 1 to " in run.error, run.error
        assert f"{of_task}, failed: AssertionError: refused ({root}/datasets/sales_orders/clean.py:8" in run.error
    assert lake.rows(SILVER, "count(*), max(order_id)") == before
    prove_whole(lake)


def test_a_function_that_kills_its_process_leaves_nothing(lake: Lake, tmp_path: Path) -> None:
    """As a crash of a library that it calls would; the next run, by the mended function, publishes."""
    deadly = CLEAN.replace(
        "    return frame", "    if frame.height:\n        os.kill(os.getpid(), 9)\n    return frame"
    )
    root = with_python(tmp_path, f"import os\n{deadly}")
    assert lake.spawn(OTHER_MONTH, ETL_PROJECT=str(root)).wait() is None
    run = lake.materialize(OTHER_MONTH)
    assert run.success, run.error
    assert lake.published_kpi(OTHER_MONTH) == lake.oracle(OTHER_MONTH)
    prove_whole(lake)


MISTAKES = {
    "batches": ("frame.select(", "frame.with_row_index().filter(pl.col('index') < 3).select(", "when it is given 1"),
    "order": ('"total_price",', 'pl.col("total_price").cum_sum().cast(pl.Decimal(15, 2)),', "when it is given 1 at a"),
    "type": ('"total_price",', 'pl.col("total_price").cast(pl.Float64),', "gave column total_price as Float64"),
    "logic": (".str.to_uppercase()", "", "status is not one of O, F, P"),
}  # fmt: skip


def test_a_transforms_test_runs_the_function_in_batches_of_several_sizes(tmp_path: Path) -> None:
    """All at once, one row, two rows: what depends on where batches are cut would differ between engines and runs."""
    root = with_python(tmp_path)
    folder = root / "datasets" / "sales_orders"

    def told() -> str:
        (result,) = run_cases([load_case(load_project(root), folder / "tests" / "cleaned.yaml")])
        return "\n".join(line for difference in result.differences for line in difference.lines())

    assert told() == ""
    for old, new, message in MISTAKES.values():
        for name, text in (("clean.py", CLEAN), ("texts.py", TEXTS)):
            (folder / name).write_text(text.replace(old, new))
        assert message in told(), (old, told())
