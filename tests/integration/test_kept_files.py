"""Metadata and manifests that are kept in memory are what S3 has, and never what is current."""

from pathlib import Path

from pyiceberg.serializers import FromInputFile

from etl_resources.tables.head import read_head
from etl_resources.tables.kept import Kept, keep_metadata
from tests.integration.local_table import FEB, JAN, LocalTable, close, sqlite_catalog


def test_what_is_kept_of_a_commit_is_what_a_reader_finds_in_the_file(tmp_path: Path) -> None:
    """What a commit wrote is kept without reading it back: a difference would live until the process ends."""
    catalog = sqlite_catalog(tmp_path)
    keep_metadata(catalog)
    table = LocalTable(catalog, tmp_path)

    for epoch in (1, 2, 3):
        table.commit(f"attempt-{epoch}", epoch, {JAN: 10 * epoch, FEB: 20})
        kept = table.table
        assert kept.metadata == FromInputFile.table_metadata(kept.io.new_input(kept.metadata_location))

    assert table.contents() == {JAN: 30, FEB: 20}
    close(catalog)


def test_a_commit_of_another_process_is_seen_at_once(tmp_path: Path) -> None:
    """Where the current metadata is, the catalog is asked every time."""
    mine, theirs = sqlite_catalog(tmp_path), sqlite_catalog(tmp_path)
    keep_metadata(mine)
    table, other = LocalTable(mine, tmp_path), LocalTable(theirs, tmp_path)
    table.commit("first", 1, {JAN: 10})
    other.commit("second", 2, {JAN: 20})

    assert table.contents() == {JAN: 20}
    assert read_head(table.table)[JAN].epoch == 2
    table.commit("third", 3, {FEB: 30})
    assert other.contents() == {JAN: 20, FEB: 30}
    close(mine)
    close(theirs)


def test_the_oldest_are_dropped_first() -> None:
    """Memory stays bounded by the weight of all values together."""
    kept: Kept[str] = Kept(6, len)
    for path in ("a", "b", "c"):
        kept.get(path, lambda: "123")

    assert kept.get("c", lambda: "read again") == "123"
    assert kept.get("a", lambda: "new") == "new"
    kept.put("huge", "1234567")
    assert kept.get("huge", lambda: "9") == "9"
