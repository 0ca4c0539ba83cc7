"""What is stored is what is audited: a file that storage lost rows of is never seen by a reader."""

from etl_resources.engines.embedded import connect
from tests.fault.reader import watching
from tests.fault.scenarios import go_on, kill_stopped, stopped_run
from tests.fault.sources import raise_prices
from tests.invariants import await_sessions_gone, prove_whole
from tests.lake import GDP, Lake
from tests.one_month import MONTH

pytest_plugins = ["tests.lake", "tests.one_month"]


def lose_a_row(lake: Lake) -> None:
    """The newest file of gdp_sales is replaced by one without its last row."""
    address = lake.runtime.addresses["gdp.gdp_sales"]
    with connect(lake.settings) as engine:
        files = f"{address.location}/data/partition={MONTH}/**/part-0.parquet"
        ((path, rows),) = engine.execute(
            f"select filename, count(*) from read_parquet('{files}', filename = true) "
            "group by 1 order by split_part(split_part(filename, 'epoch=', 2), '-', 1)::bigint desc limit 1"
        ).fetchall()
        engine.execute(f"create table kept as from read_parquet('{path}') limit {rows - 1}")
        engine.execute(f"copy kept to '{path}' (format parquet)")


def test_a_file_that_lost_a_row_fails_its_audit_before_anybody_reads_it(published: Lake) -> None:
    """Publish before audit, and a reader would have seen it."""
    raise_prices(published, MONTH)
    with watching(published):
        run = stopped_run(published, "stage.file_written", "gdp_sales", first=MONTH)
        with kill_stopped(run):
            lose_a_row(published)
            before = published.rows(GDP, "count(*), sum(net_amount)")
            go_on(run)
            failed = run.wait()

    assert failed is not None
    assert not failed.success
    assert any(told in failed.error for told in ("failed its audit: ", "was damaged or replaced")), failed.error
    assert published.rows(GDP, "count(*), sum(net_amount)") == before
    await_sessions_gone(published)
    again = published.materialize(MONTH)
    assert again.published(GDP) == {MONTH}
    prove_whole(published)
