"""What counts as a difference, asset by asset, and what the line says."""

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from etl_assets.verify_differences import (
    Commit,
    ServedReading,
    TableReading,
    not_served,
    served_differences,
    table_differences,
)
from etl_assets.verify_report import AssetReport, Difference, VerifiedPartition, VerifyReport
from etl_resources.ledger.records import Publish
from etl_resources.quality.stored_content import DuplicateKeys, StoredContent, batches
from etl_resources.tables.head import PartitionHead

MONTH, TOKEN = "2024-05", "a" * 64
VERSION = "3-00000000000000aa"


def publish(**changed: Any) -> Publish:
    given = {"asset": "kpi.x", "partition": MONTH, "epoch": 7, "token": TOKEN, "version": VERSION, "rows": 3,
             "size_bytes": 1, "snapshot_id": 1, "inputs": (), "linked": (), "fingerprint": None, "alias_of": None,
             "counts": {}, "run_id": "r", "attempt": "r-bbbbbbbbbbbb"}  # fmt: skip
    return Publish(**{**given, **changed})


CONTENT = StoredContent(3, VERSION)
TABLE = TableReading(
    "kpi.x", {MONTH: PartitionHead(7, TOKEN[:16])}, {MONTH: publish()}, {MONTH: CONTENT}, scanned={MONTH: 3}
)
SERVED = ServedReading(
    "postgres.a.x", "kpi.x", {MONTH: CONTENT}, {MONTH: Commit(7, VERSION)}, {MONTH: publish()}, {MONTH: CONTENT}
)


def test_equal_stores_have_no_difference() -> None:
    assert table_differences(TABLE) == []
    assert served_differences(SERVED) == []


def test_a_captures_path_carries_its_attempt_instead_of_the_token() -> None:
    """The token of a capture is known only after its files are written."""
    assert table_differences(replace(TABLE, heads={MONTH: PartitionHead(7, "b" * 12)})) == []


@pytest.mark.parametrize(
    ("change", "what", "words"),
    [
        ({"ledger": {}}, "ledger", "no publish"),
        ({"ledger": {MONTH: publish(epoch=8)}}, "epoch", "epoch 8"),
        ({"ledger": {MONTH: publish(token="c" * 64, attempt="r-d")}}, "epoch", "token cccc"),
        ({"ledger": {MONTH: publish(version="3-00")}}, "content", "restore them from a backup"),
        (
            {"ledger": {MONTH: publish(version="3-00")}, "outdated": {MONTH}},
            "content",
            "another version of its manifest",
        ),
        ({"ledger": {MONTH: publish(rows=4)}}, "rows", "expected 4 (ledger), found 3 (files)"),
        ({"content": {MONTH: StoredContent(3, VERSION, outside=2)}}, "files", "2 rows of another one"),
        ({"content": {}, "unreadable": {MONTH: "404"}, "scanned": None}, "files", "found 404"),
        ({"scanned": {MONTH: 6}}, "rows", "expected 3 (files), found 6 (iceberg_scan)"),
        ({"scanned": {}}, "rows", "found 0 (iceberg_scan)"),
        ({"duplicates": [DuplicateKeys(MONTH, "2024-06", 1, 1)]}, "keys", "1 keys with 1 surplus rows in 2024-05 and"),
    ],
)
def test_a_table_that_differs(change: Mapping[str, Any], what: str, words: str) -> None:
    """Each comparison can fail alone, and its line names the asset and the partition."""
    (found,) = table_differences(replace(TABLE, **cast("dict[str, Any]", change)))
    assert (found.asset, found.partition, found.what) == ("kpi.x", MONTH, what)
    assert str(found).startswith(f"kpi.x, partition {MONTH}: {what}: expected ")
    assert words in str(found)


def test_a_partition_that_the_table_lost() -> None:
    (found,) = table_differences(replace(TABLE, heads={}, content={}, scanned=None))
    assert (found.partition, found.what, found.found) == (MONTH, "table", "no files")


def test_rows_of_a_month_without_files() -> None:
    """What another writer added under a month that was never published."""
    (found,) = table_differences(replace(TABLE, scanned={MONTH: 3, "2031-01": 1}))
    assert (found.partition, found.found) == ("2031-01", "1 (iceberg_scan)")


@pytest.mark.parametrize(
    ("change", "whats"),
    [
        ({"content": {MONTH: StoredContent(3, "3-bb")}}, ["content", "parity"]),
        ({"content": {}}, ["content", "parity"]),
        ({"published": {MONTH: StoredContent(4, "4-cc")}}, ["parity"]),
        ({"published": {}}, ["parity"]),
        ({"ledger": {}}, ["epoch"]),
        ({"ledger": {MONTH: publish(epoch=6)}}, ["epoch"]),
        ({"commits": {}}, ["commit"]),
        ({"missing_columns": ["tax"]}, ["columns"]),
        ({"commits": {}, "content": {}}, ["served"]),
        ({"foreign": ["index other"]}, ["readers"]),
    ],
)
def test_a_target_that_differs(change: Mapping[str, Any], whats: list[str]) -> None:
    found = served_differences(replace(SERVED, **cast("dict[str, Any]", change)))
    assert [d.what for d in found] == whats
    assert {d.asset for d in found} == {"postgres.a.x"}


def test_a_target_that_is_behind_is_told_from_one_that_was_changed() -> None:
    """The first is healed by a run; the second is pruned by it."""
    (behind,) = served_differences(replace(SERVED, published={MONTH: StoredContent(4, "4-cc")}))
    assert "behind" in behind.advice
    *_, changed = served_differences(replace(SERVED, content={MONTH: StoredContent(3, "3-bb")}))
    assert "Delete its row from etl_serving.commits" in changed.advice


def test_a_target_that_was_lost_is_not_one_that_waits() -> None:
    """A wiped cluster, or one whose address isn't set any more, has nothing that could differ."""
    lost = replace(SERVED, commits={}, content={})
    (found,) = served_differences(lost)
    assert (found.partition, found.expected, found.found) == (MONTH, "epoch 7 (ledger)", "nothing")
    assert not_served(lost) == []


def test_what_waits_to_be_served_is_no_difference() -> None:
    reading = replace(SERVED, commits={}, content={}, ledger={})
    assert served_differences(reading) == []
    assert not_served(reading) == [MONTH]


def test_a_report_has_a_line_per_asset_and_per_difference() -> None:
    good = AssetReport("kpi.x", ("Iceberg", "ledger"), {MONTH: VerifiedPartition(2871, VERSION, 7)})
    bad = AssetReport(
        "gdp.longer", ("Iceberg", "ledger"), {}, [Difference("gdp.longer", MONTH, "rows", "1", "2", "Do.")]
    )
    report = VerifyReport([good, bad], ["branch wap-x of kpi.x"])
    assert not report.equal
    assert report.lines() == [
        "kpi.x          1 partition          2,871 rows   equal in Iceberg and ledger",
        "gdp.longer     0 partitions             0 rows   1 difference",
        "left over: branch wap-x of kpi.x",
        "different: gdp.longer, partition 2024-05: rows: expected 1, found 2. Do.",
    ]
    assert VerifyReport([good]).equal


@pytest.mark.parametrize(
    ("rows", "batched"),
    [([5, 5, 5], [[0, 1], [2]]), ([20, 1], [[0], [1]]), ([], []), ([0, 0, 10], [[0, 1, 2]])],
)
def test_partitions_are_read_together_up_to_a_bound(rows: list[int], batched: list[list[int]]) -> None:
    """A query's memory must not grow with the table."""
    heads = {str(i): cast("PartitionHead", SimpleNamespace(rows=n)) for i, n in enumerate(rows)}
    assert list(batches(heads, rows=10)) == [[str(i) for i in batch] for batch in batched]
