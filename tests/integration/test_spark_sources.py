"""Sources that Spark's executors read: the rows that the embedded engine reads, of one moment, and nothing partial."""

from etl_resources.ledger.ledger import Ledger
from tests.invariants import prove_whole
from tests.lake import LINES, ORDERS, Lake

pytest_plugins = ["tests.lake"]
SPREAD = {"ETL_SIZE": "spread"}
MONTHS = ("2024-04", "2024-06")


def bronze_of(lake: Lake) -> dict[tuple[str, str], tuple[str, int]]:
    """(table, partition) → version and rows."""
    with Ledger.open(lake.settings) as ledger:
        found = {name: ledger.current(name) for name in lake.runtime.addresses if name.startswith("bronze.")}
    return {(name, p): (publish.version, publish.rows) for name, of in found.items() for p, publish in of.items()}


def test_what_executors_capture_is_what_the_embedded_engine_captures(lake: Lake, java: object) -> None:
    """Then the embedded engine finds nothing to do."""
    run = lake.materialize(*MONTHS, selection=[ORDERS, LINES], **SPREAD)
    assert run.success, run.error
    engines = lake.platform("select distinct staged ->> 'engine' from etl.intent_partitions")
    assert [name.split()[0] for (name,) in engines] == ["pyspark"]
    by_spark = bronze_of(lake)
    run = lake.materialize(*MONTHS)
    assert run.success, run.error
    assert set(run.statuses[ORDERS].values()) == {"pruned"}
    assert bronze_of(lake) == by_spark
    prove_whole(lake)
