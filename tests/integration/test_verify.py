"""`verify` finds what was really changed in each store, names the partition, and is silent otherwise."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from etl_assets.verify import verify
from etl_assets.verify_report import VerifyReport
from etl_resources.conventions import BRANCH_PREFIX
from etl_resources.errors import PermanentError
from etl_resources.tables.head import read_head
from tests.integration.published import PublishedDemo
from tests.invariants import prove_whole

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

pytest_plugins = ["tests.lake", "tests.integration.published"]

MONTH = "2024-05"
GDP, KPI, SERVED = "gdp.gdp_sales", "kpi.kpi_net_revenue", "postgres.analytics.kpi_net_revenue"


def run_verify(demo: PublishedDemo, *assets: str, partitions: Sequence[str] = ()) -> VerifyReport:
    return verify(demo.lake.runtime, assets, partitions, lambda _: None)


def differences(report: VerifyReport) -> set[tuple[str, str | None, str]]:
    return {(d.asset, d.partition, d.what) for d in report.differences}


@contextmanager
def changed(demo: PublishedDemo, change: str, undo: str) -> Iterator[None]:
    """A statement in the platform's database, taken back afterwards."""
    demo.lake.platform(change)
    try:
        yield
    finally:
        demo.lake.platform(undo)


@contextmanager
def foreign_commit(demo: PublishedDemo, commit: "Callable[[Table], object]") -> Iterator[None]:
    """A commit to the KPI's table past the platform; main is set back afterwards."""
    from pyiceberg.table.update import SetSnapshotRefUpdate

    catalog, identifier = demo.lake.runtime.store.catalog, demo.lake.runtime.addresses[KPI].identifier
    table = catalog.load_table(identifier)
    before = table.current_snapshot()
    assert before is not None
    commit(table)
    try:
        yield
    finally:
        back = SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=before.snapshot_id)
        catalog.commit_table(catalog.load_table(identifier), (), (back,))


def added_again(table: "Table", paths: Sequence[str]) -> "Sequence[DataFile]":
    """The table's own entries of these files."""
    return [f for head in read_head(table).values() for f in head.files if f.file_path in paths]


def test_a_published_demo_is_equal_everywhere(published_demo: PublishedDemo) -> None:
    """The counts come from the ERP and not from the platform: verify must not agree with itself only."""
    report = run_verify(published_demo)

    assert report.equal, report.lines()
    assert report.leftovers == ()
    found = {a.asset: (len(a.partitions), a.rows) for a in report.assets}
    kpi_rows = len(published_demo.lake.oracle())
    ((lines,),) = published_demo.lake.erp(
        "select count(*) from erp.order_lines join erp.orders using (order_id) "
        "where order_date >= '2023-08-01' and order_date < '2026-08-01'"
    )
    assert len(found) == 7
    assert found[GDP] == (36, lines)
    assert found[KPI] == found[SERVED] == (36, kpi_rows)


def test_one_changed_amount_in_postgres_fails_with_its_partition(published_demo: PublishedDemo) -> None:
    """Commit table and ledger still agree with each other; only the reread rows tell."""
    where = f"where month = '{MONTH}-01' and nation = (select min(nation) from analytics.kpi_net_revenue)"
    update = "update analytics.kpi_net_revenue set net_revenue = net_revenue"
    with changed(published_demo, f"{update} + 0.01 {where}", f"{update} - 0.01 {where}"):
        result = published_demo.cli("verify", "--asset", SERVED)

        assert result.returncode == 1
        assert f"{SERVED}, partition {MONTH}: content: expected" in result.stdout
        assert f"{SERVED}, partition {MONTH}: parity: expected" in result.stdout
        assert result.stdout.count("different:") == 2
    result = published_demo.cli("verify", "--asset", SERVED, "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["equal"] is True


def test_the_advice_for_a_changed_served_partition_heals_it(published_demo: PublishedDemo) -> None:
    """Advice that doesn't work is worse than none: delete the commit row, materialize, equal again."""
    lake = published_demo.lake
    lake.platform(f"delete from analytics.kpi_net_revenue where month = '{MONTH}-01' and orders % 2 = 0")
    report = run_verify(published_demo, SERVED)
    assert differences(report) == {(SERVED, MONTH, "content"), (SERVED, MONTH, "parity")}
    assert all("Delete its row from etl_serving.commits, then materialize" in d.advice for d in report.differences)

    lake.platform("delete from etl_serving.commits where partition = %s", MONTH)
    run = lake.materialize(MONTH)

    assert run.success, run.error
    assert run_verify(published_demo, SERVED).equal
    prove_whole(lake)


def test_rows_that_nobody_committed_are_found(published_demo: PublishedDemo) -> None:
    """A row of a month that was never served has no commit row to be compared with."""
    insert = (
        "insert into analytics.kpi_net_revenue select '2031-01-01', nation, currency, orders, lines, net_revenue, "
        "average_order_value from analytics.kpi_net_revenue limit 1"
    )
    delete = "delete from analytics.kpi_net_revenue where month = '2031-01-01'"
    with changed(published_demo, insert, delete):
        assert differences(run_verify(published_demo, SERVED)) == {(SERVED, "2031-01", "commit")}


def test_a_target_that_lost_everything_is_found(published_demo: PublishedDemo) -> None:
    """Neither rows nor commit rows are there to be compared, only the ledger remembers: never "not served yet"."""
    rename = "alter table {} rename to {}".format
    away = [("etl_serving.commits", "away"), ("analytics.kpi_net_revenue", "away")]
    back = [("etl_serving.away", "commits"), ("analytics.away", "kpi_net_revenue")]
    with changed(published_demo, "; ".join(rename(*n) for n in away), "; ".join(rename(*n) for n in back)):
        report = run_verify(published_demo, SERVED)

    assert len(report.differences) == 36
    assert {(d.asset, d.what, d.found) for d in report.differences} == {(SERVED, "served", "nothing")}


def test_a_ledger_that_remembers_another_content_is_found(published_demo: PublishedDemo) -> None:
    """The files are right and the record is not: still a difference, in the asset that was asked for only."""
    where = f"where asset = '{GDP}' and partition = '{MONTH}'"
    update = "update etl.publishes set version = overlay(version placing"
    ((version,),) = published_demo.lake.platform(f"select version from etl.publishes {where}")
    flipped = "0" if version[-1] != "0" else "1"
    with changed(
        published_demo,
        f"{update} '{flipped}' from length(version)) {where}",
        f"update etl.publishes set version = '{version}' {where}",
    ):
        assert differences(run_verify(published_demo, GDP, KPI)) == {(GDP, MONTH, "content")}
        assert run_verify(published_demo, GDP, partitions=["2024-06"]).equal


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        pytest.param("swap", {"content", "files", "keys", "rows"}, id="files of another month"),
        pytest.param("truncate", {"files"}, id="half a file"),
        pytest.param("delete", {"files"}, id="no file"),
    ],
)
def test_a_changed_file_is_found(published_demo: PublishedDemo, damage: str, what: set[str]) -> None:
    """S3 is rewritten behind the table: no commit, no ledger entry, the metadata as it was."""
    import boto3

    lake = published_demo.lake
    endpoint, key, secret = lake.settings.require_s3()
    s3 = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret,
                      region_name="us-east-1")  # fmt: skip
    bucket = lake.runtime.bucket

    def file_of(month: str) -> tuple[str, bytes]:
        prefix = f"gold/gdp_sales/data/partition={month}/"
        (found,) = s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
        return found["Key"], s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()

    name, original = file_of(MONTH)
    try:
        if damage == "delete":
            s3.delete_object(Bucket=bucket, Key=name)
        else:
            body = file_of("2024-06")[1] if damage == "swap" else original[: len(original) // 2]
            s3.put_object(Bucket=bucket, Key=name, Body=body)
        report = run_verify(published_demo, GDP)
    finally:
        s3.put_object(Bucket=bucket, Key=name, Body=original)

    assert {w for a, p, w in differences(report) if (a, p) == (GDP, MONTH)} == what, report.lines()
    assert run_verify(published_demo, GDP).equal


def test_a_commit_by_another_writer_is_found(published_demo: PublishedDemo) -> None:
    """Iceberg lets anybody commit; the protocol's epochs are in the paths, so such a file is told from ours."""
    with foreign_commit(published_demo, lambda table: table.delete(f"month = '{MONTH}-01' and nation = 'BRAZIL'")):
        report = run_verify(published_demo, GDP, KPI)

    assert differences(report) == {(KPI, None, "files")}
    assert "was not written by this platform" in report.differences[0].found
    assert run_verify(published_demo, KPI).equal


def test_a_file_that_the_table_lists_twice_is_found(published_demo: PublishedDemo) -> None:
    """Every file is as it was written, and its rows count double for every reader of the table."""

    def again(table: "Table") -> None:
        paths = [f.file.file_path for f in table.scan(row_filter=f"month = '{MONTH}-01'").plan_files()]
        with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
            for file in added_again(table, paths):
                append.append_data_file(file)

    with foreign_commit(published_demo, again):
        report = run_verify(published_demo, KPI)

    assert (KPI, MONTH, "rows") in differences(report), report.lines()
    assert {p for _, p, _ in differences(report)} == {MONTH}


def test_leftovers_are_told_and_are_no_difference(published_demo: PublishedDemo) -> None:
    """A branch or staging table of a dead attempt is litter that the next run clears, not wrong data."""
    lake = published_demo.lake
    table = lake.runtime.store.catalog.load_table(lake.runtime.addresses[KPI].identifier)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    branch, staging = f"{BRANCH_PREFIX}gone-0123456789ab", "etl_staging.analytics_kpi_net_revenue_gone"
    table.manage_snapshots().create_branch(snapshot.snapshot_id, branch).commit()
    with changed(published_demo, f"create table {staging} (a int)", f"drop table {staging}"):
        try:
            report = run_verify(published_demo, KPI)
        finally:
            table.refresh().manage_snapshots().remove_branch(branch).commit()

    assert report.equal
    assert report.leftovers == (f"branch {branch} of {KPI}", f"staging table {staging}")


def test_an_unknown_name_says_what_was_meant(published_demo: PublishedDemo) -> None:
    result = published_demo.cli("verify", "--asset", "kpi.net_revenue")
    assert result.returncode == 1
    assert "Unknown asset 'kpi.net_revenue'; did you mean 'kpi.kpi_net_revenue'?" in result.stderr
    with pytest.raises(PermanentError, match="Unknown partition '2024-5'; did you mean '2024-05'"):
        run_verify(published_demo, KPI, partitions=["2024-5"])
