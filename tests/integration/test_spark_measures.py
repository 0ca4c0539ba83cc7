"""What Spark did is told of exactly the partition for which it did it, also where others run beside it, or it fails."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from etl_resources.engines.spark_metrics import SparkMeasures, measuring
from etl_resources.engines.spark_session import spark_session
from etl_resources.settings import Settings, load_settings
from tests.integration.test_spark_parity import SIZE

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def settings(stack: object, java: object) -> Iterator[Settings]:
    """With a Spark that runs already."""
    found = load_settings()
    with spark_session(found, SIZE):
        yield found


def shuffled(spark: "SparkSession", rows: int, parts: int) -> None:
    """A query that reads `rows` in `parts` tasks, joins 10 more by broadcast, from another thread, and shuffles."""
    spark.range(0, rows, 1, parts).createOrReplaceTempView("many")
    spark.range(0, 10, 1, 1).createOrReplaceTempView("few")
    spark.sql(
        "select /*+ broadcast(few) */ few.id, count(*) from many join few on many.id % 10 = few.id group by 1"
    ).collect()


def test_figures_of_partitions_side_by_side_dont_mix(settings: Settings) -> None:
    """Each thread its session of one Spark, all at once; a thread is used again for the next partition."""
    together = Barrier(2, timeout=60)

    def one(rows: int, parts: int) -> SparkMeasures:
        found = SparkMeasures()
        with spark_session(settings, SIZE) as spark:
            together.wait()
            for _ in range(3):
                with measuring(spark, f"{rows} rows", found):
                    shuffled(spark, rows, parts)
            shuffled(spark, 77, 7)
        return found

    with ThreadPoolExecutor(2) as threads:
        small, large = threads.map(one, (1_000, 90_000), (2, 5))
    for found, rows, parts in ((small, 1_000, 2), (large, 90_000, 5)):
        assert found.input_rows == 3 * (rows + 10)
        assert found.tasks >= 3 * (parts + 2), "the scan, the few, and what comes after the shuffle"
        assert (found.tries, found.stages, found.stages_failed, found.stages_forgotten) == (3, 9, 0, 0)
        assert (found.tasks_failed, found.tasks_killed) == (0, 0)
        assert found.shuffle_read_bytes == found.shuffle_write_bytes > 0
        assert found.executor_run_s > 0 < found.peak_task_memory_bytes
        assert sum(s.tasks for s in found.by_stage) == found.tasks
        assert {s.tasks for s in found.by_stage} >= {parts, 1}


def test_what_failed_is_told_as_well(settings: Settings) -> None:
    """The stages before it, too: that is what one wants to see then."""
    found = SparkMeasures()

    def fail() -> None:
        with spark_session(settings, SIZE) as spark, measuring(spark, "fails", found):
            shuffled(spark, 100, 2)
            spark.sql("select raise_error('too many') from range(0, 10, 1, 1)").collect()

    with pytest.raises(Exception, match="too many"):
        fail()
    assert (found.tries, found.stages_failed, found.tasks_failed) == (1, 1, 1)
    assert found.stages == 4
    assert found.input_rows >= 110


FORGETFUL = """
from pyspark.sql import SparkSession
from etl_resources.engines.spark_metrics import SparkMeasures, measuring
from tests.integration.test_spark_measures import shuffled
spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
         .config("spark.ui.retainedStages", "2").config("spark.driver.memory", "600m").getOrCreate())
found = SparkMeasures()
with measuring(spark, "many stages", found):
    for _ in range(4):
        shuffled(spark, 100, 2)
assert found.stages == 12 and found.tasks == 4 * (2 + 1 + 1), found
assert 0 < found.stages_forgotten < 12, found
assert len(found.by_stage) == found.stages - found.stages_forgotten, found
gone = SparkMeasures()
try:
    with measuring(spark, "stopped", gone):
        spark.stop()
        raise ValueError("what happened")
except ValueError:
    pass
assert gone.jobs == 0
"""


@pytest.mark.long
def test_stages_that_spark_forgot_are_counted(java: object) -> None:
    """Figures that lack something must not look whole; and nothing that can't be measured hides what happened."""
    done = subprocess.run([sys.executable, "-c", FORGETFUL], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
