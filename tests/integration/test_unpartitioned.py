"""Tables without partitions beside monthly ones, in one job and one run: every store and every command knows them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from etl_assets.definitions import build_definitions
from etl_assets.maintain import maintain
from etl_assets.project import load_project
from etl_assets.published_tables import list_tables
from etl_assets.query import run_query
from etl_assets.recover import recover
from etl_assets.verify import verify
from etl_assets.versions import commands, compare, list_pins, list_versions, roll_back, to_follow, unpin
from etl_resources.calendar import WHOLE
from tests.lake import PROJECT_DIR, Lake, instance, new_lake
from tests.projects import NATIONS

pytest_plugins = ["tests.lake"]

MONTHS = ("2024-03", "2024-04")
REFERENCE = ("bronze/nations", "silver/nations", "gdp/gdp_nations", "postgres/analytics/gdp_nations")
TURNOVER = ("gdp/gdp_turnover", "postgres/analytics/gdp_turnover")
"""Without partitions, over all months of a monthly table."""
MONTHLY = ("bronze/orders", "silver/orders", "gdp/gdp_orders", "postgres/analytics/gdp_orders")
EVERYTHING = {**{a: {WHOLE} for a in (*REFERENCE, *TURNOVER)}, **{a: set(MONTHS) for a in MONTHLY}}
"""Asset → its partitions."""


@pytest.fixture(scope="module")
def published(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Two months and the tables without partitions; every test leaves everything published and current."""
    with new_lake(tmp_path_factory.mktemp("lake"), project=NATIONS) as lake:
        run = lake.materialize(*MONTHS)
        assert run.success, run.error
        assert {a: run.published(a) for a in EVERYTHING} == EVERYTHING
        yield lake


def prove_right(lake: Lake) -> None:
    """What is served is what the source says, and every store holds what was published."""
    assert lake.platform("select nation_id, nation from analytics.gdp_nations order by 1") == lake.erp(
        "select nation_id, name from erp.nations order by 1"
    )
    orders = (
        "from erp.orders join erp.customers using (customer_id) join erp.nations n using (nation_id) "
        "where to_char(order_date, 'YYYY-MM') = any(%s)"
    )
    assert lake.platform("select order_id, nation from analytics.gdp_orders order by 1") == lake.erp(
        f"select order_id, n.name {orders} order by 1", list(MONTHS)
    )
    assert lake.platform("select nation, orders, total_price from analytics.gdp_turnover order by 1") == lake.erp(
        f"select n.name, count(*), sum(total_price) {orders} group by 1 order by 1", list(MONTHS)
    )
    prove_equal(lake)


def prove_equal(lake: Lake) -> None:
    report = verify(lake.runtime, (), (), lambda _: None)
    assert report.equal, "\n".join(report.lines())


def rename(lake: Lake, old: str, new: str) -> None:
    lake.erp("update erp.nations set name = %s where name = %s", new, old)


def test_the_same_run_again_prunes_everything(published: Lake) -> None:
    """A table without partitions has a token and a version like any partition, whatever months the run is for."""
    prove_right(published)
    again = published.materialize(*MONTHS)
    assert again.success, again.error
    assert {a: again.partitions(a, "pruned") for a in EVERYTHING} == EVERYTHING
    assert {m.partition for a in REFERENCE for m in again.materializations(a).values()} == {None}, "Dagster was told"


def test_a_change_of_a_whole_table_reaches_every_month_that_reads_it(published: Lake) -> None:
    """A month reads the whole table, so its token holds the whole table's version."""
    rename(published, "CHINA", "CATHAY")
    run = published.materialize(*MONTHS)
    assert run.success, run.error
    assert run.partitions("bronze/orders", "pruned") == set(MONTHS), "nothing of it changed"
    for asset in ("gdp/gdp_orders", "gdp/gdp_nations", *TURNOVER):
        assert run.published(asset) == EVERYTHING[asset], asset
    prove_right(published)


def test_a_change_of_one_month_reaches_the_whole_table_over_all_months(published: Lake) -> None:
    """It reads every published month, and nothing that doesn't read that month is computed."""
    published.erp(
        "update erp.orders set total_price = total_price + 1 where to_char(order_date, 'YYYY-MM') = %s", MONTHS[0]
    )
    run = published.materialize(MONTHS[0])
    assert run.success, run.error
    assert run.published("gdp/gdp_turnover") == {WHOLE}
    assert run.partitions("gdp/gdp_nations", "pruned") == {WHOLE}
    prove_right(published)


def test_a_rollback_pins_the_whole_table_and_says_which_months_follow(published: Lake) -> None:
    """`all` is a partition to versions, diff, rollback, pins and unpin; dependants are found by what they read."""
    lake, runtime, table = published, published.runtime, "silver.nations"
    before = list_versions(runtime, table, WHOLE).versions[0]
    rename(lake, "FRANCE", "GAUL")
    assert lake.materialize(*MONTHS).success

    found = compare(runtime, table, str(before.number), str(before.number + 1), 10)
    assert [(p.partition, p.added, p.removed, p.changed) for p in found.partitions] == [(WHOLE, 0, 0, 1)]
    done = roll_back(runtime, table, str(before.number), (), "names are disputed", dry_run=False)

    months = sorted(MONTHS)
    assert dict(done.stale) == {
        "gdp.gdp_nations": [WHOLE], "gdp.gdp_orders": months, "gdp.gdp_turnover": [WHOLE],
        "postgres.analytics.gdp_nations": [WHOLE], "postgres.analytics.gdp_orders": months,
        "postgres.analytics.gdp_turnover": [WHOLE],
    }  # fmt: skip
    assert [(p.asset, p.partition) for p in list_pins(runtime)] == [(table, WHOLE)]
    assert lake.materialize(*MONTHS).success
    assert ("FRANCE",) in lake.platform("select nation from analytics.gdp_nations")
    assert lake.platform("select count(*) from analytics.gdp_orders where nation = 'GAUL'") == [(0,)]
    prove_equal(lake)

    assert unpin(runtime, table, [WHOLE], dry_run=False) == [WHOLE]
    (command,) = to_follow(runtime, table, [WHOLE])
    assert command.endswith("--select 'silver/nations*' --partition-range 2024-03...2024-04")
    assert lake.materialize(*MONTHS).success
    prove_right(lake)


def test_a_command_for_tables_without_partitions_names_none() -> None:
    """Dagster refuses --partition when nothing that is selected has partitions."""
    assert commands({"gdp.gdp_nations": [WHOLE]}) == [
        "dagster asset materialize -m etl_assets.definitions --select 'gdp/gdp_nations'"
    ]


def test_a_lost_ledger_is_rebuilt_and_nothing_is_computed_again(published: Lake) -> None:
    """The path of a file, and the evidence beside it, say `all`."""
    published.platform("delete from etl.publishes")
    assert not recover(published.runtime).unsettled
    prove_equal(published)
    again = published.materialize(*MONTHS)
    assert {a: again.partitions(a, "pruned") for a in EVERYTHING} == EVERYTHING


def test_maintenance_leaves_the_content_as_it_is(published: Lake) -> None:
    """Compaction rewrites files of a table without a partition field; markers and old versions go."""
    report = maintain(published.runtime, (), lambda _: None)
    assert not report.failed
    prove_right(published)


def test_it_is_queried_and_listed_like_any_table(published: Lake) -> None:
    with run_query(published.runtime, "select count(*) from silver.nations") as found:
        assert [row for rows in found.batches for row in rows] == [(25,)]
    listed = {t.name: (t.partitions, t.rows) for t in list_tables(published.runtime)}
    assert listed["silver.nations"] == listed["postgres.analytics.gdp_nations"] == (1, 25)
    only = verify(published.runtime, ["gdp.gdp_nations"], [WHOLE], lambda _: None)
    assert only.equal
    assert [list(a.partitions) for a in only.assets] == [[WHOLE]]


def test_dagster_knows_what_is_up_to_date_and_what_is_not(published: Lake) -> None:
    """Data versions and pointers of inputs without partitions, so that the web UI shows no false `outdated`."""
    assert published.materialize(*MONTHS).success
    rename(published, "PERU", "INCA")
    assert published.materialize(*MONTHS, selection=["bronze/nations", "silver/nations"]).success
    with published.environment():
        graph = build_definitions(load_project(NATIONS), published.settings).resolve_asset_graph()
    stale = CachingStaleStatusResolver(instance(), graph, LoadingContextForTest(instance()))

    def status(asset: str, partition: str | None = None) -> str:
        return stale.get_status(dg.AssetKey(asset.split("/")), partition).value

    assert {status(a) for a in ("bronze/nations", "silver/nations")} == {"FRESH"}
    assert {status("silver/orders", m) for m in MONTHS} == {"FRESH"}
    assert status("gdp/gdp_nations") == "STALE"
    assert {status("gdp/gdp_orders", m) for m in MONTHS} == {"STALE"}
    assert published.materialize(*MONTHS).success
    prove_right(published)


def test_dagsters_own_command_takes_months_and_none(published: Lake, tmp_path: Path) -> None:
    """In a range whole tables take part once; alone they take no partition."""
    for options in (
        ["*", "--partition-range", "2024-03...2024-04"],
        ["*", "--partition", MONTHS[0]],
        ["+gdp/gdp_nations"],
    ):
        with published.environment(DAGSTER_HOME=str(tmp_path)):
            done = subprocess.run(
                [str(Path(sys.executable).with_name("dagster")), "asset", "materialize", "-m", "etl_assets.definitions",
                 "--select", *options],
                cwd=PROJECT_DIR, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    prove_right(published)


def test_an_emptied_source_empties_every_store(published: Lake) -> None:
    """No row has a partition then: the rowless file keeps the epoch, so that no old writer brings the rows back."""
    published.erp("truncate erp.nations cascade")
    run = published.materialize(*MONTHS)
    assert run.success, run.error
    assert {a: run.published(a) for a in EVERYTHING} == EVERYTHING
    for target in ("gdp_nations", "gdp_orders", "gdp_turnover"):
        assert published.platform(f"select count(*) from analytics.{target}") == [(0,)], target
    prove_right(published)
    again = published.materialize(*MONTHS)
    assert {a: again.partitions(a, "pruned") for a in EVERYTHING} == EVERYTHING


def test_the_graph_mixes_both_kinds_in_one_job() -> None:
    """The job's partitions are months; assets without take part as they are, checks and sources too."""
    definitions = build_definitions(load_project(NATIONS))
    graph = definitions.resolve_asset_graph()
    whole = {k.to_user_string() for k in graph.get_all_asset_keys() if graph.get(k).partitions_def is None}
    assert whole == {
        "erp/nations", "bronze/nations", "silver/nations", "gdp/gdp_nations", "gdp/gdp_turnover",
        "postgres/analytics/gdp_nations", "postgres/analytics/gdp_turnover",
    }  # fmt: skip
    job = definitions.resolve_job_def("all_layers")
    assert job.partitions_def is not None
    assert {k.to_user_string() for k in job.asset_layer.executable_asset_keys} > whole - {"erp/nations"}
