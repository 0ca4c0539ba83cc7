"""What etl_resources.tables takes from PyIceberg beyond its public interface, so that an upgrade fails here and loudly.

Each name is used in data_files, head, publish or commit; the behaviour that we rely on is tested on real tables
in test_commit_protocol.py.
"""

import importlib.metadata
import inspect
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import pyarrow as io_pyarrow
from pyiceberg.manifest import DataFile, ManifestEntry, ManifestFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.snapshots import Snapshot, SnapshotSummaryCollector, ancestors_of, update_snapshot_summaries
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotRefUpdate,
    SetSnapshotRefUpdate,
)
from pyiceberg.table.update.snapshot import UpdateSnapshot, _ManifestMergeManager, _OverwriteFiles, _SnapshotProducer

from etl_resources.calendar import Every, Grain
from etl_resources.tables.commit import build_snapshot
from etl_resources.tables.partitioning import partition_spec, partition_value
from etl_resources.tables.schema import iceberg_schema
from tests.integration.local_table import CONTRACT, JAN, LocalTable, close, sqlite_catalog, token_of

PRIVATE: list[tuple[Any, list[str]]] = [
    (
        io_pyarrow._check_pyarrow_schema_compatible,
        ["requested_schema", "provided_schema", "downcast_ns_timestamp_to_us", "format_version"],
    ),
    (io_pyarrow.compute_statistics_plan, ["schema", "table_properties"]),
    (
        io_pyarrow.data_file_statistics_from_parquet_metadata,
        ["parquet_metadata", "stats_columns", "parquet_column_mapping"],
    ),
    (io_pyarrow.parquet_path_to_id_mapping, ["schema"]),
    (io_pyarrow.DataFileStatistics.partition, ["self", "partition_spec", "schema"]),
    (io_pyarrow.DataFileStatistics.to_serialized_dict, ["self"]),
    (_SnapshotProducer._commit, ["self"]),
    (_SnapshotProducer._existing_manifests, ["self"]),
    (_OverwriteFiles._build_manifest_evaluator, ["self", "spec_id"]),
    (_SnapshotProducer._clean_all_uncommitted, ["self"]),
    (_SnapshotProducer.append_data_file, ["self", "data_file"]),
    (_SnapshotProducer.delete_data_file, ["self", "data_file"]),
    (_SnapshotProducer._process_manifests, ["self", "manifests"]),
    (_SnapshotProducer._manifests, ["self"]),
    (_SnapshotProducer._summary, ["self", "snapshot_properties"]),
    (_SnapshotProducer.new_manifest_writer, ["self", "spec"]),
    (_SnapshotProducer.spec, ["self", "spec_id"]),
    (SnapshotSummaryCollector.add_file, ["self", "data_file", "schema", "partition_spec"]),
    (update_snapshot_summaries, ["summary", "previous_summary"]),
    (
        _ManifestMergeManager.__init__,
        ["self", "target_size_bytes", "min_count_to_merge", "merge_enabled", "snapshot_producer"],
    ),
    (_ManifestMergeManager.merge_manifests, ["self", "manifests"]),
    (Catalog._delete_old_metadata, ["io", "base", "metadata"]),
    (SqlCatalog._convert_orm_to_iceberg, ["self", "orm_table"]),
    (SqlCatalog._write_metadata, ["metadata", "io", "metadata_path"]),
    (SqlCatalog._load_file_io, ["self", "properties", "location"]),
    (Table.__init__, ["self", "identifier", "metadata", "metadata_location", "io", "catalog", "config"]),
    (Transaction.update_snapshot, ["self", "snapshot_properties", "branch"]),
    (UpdateSnapshot.fast_append, ["self"]),
    (Catalog.commit_table, ["self", "table", "requirements", "updates"]),
    (Snapshot.manifests, ["self", "io"]),
    (ManifestFile.fetch_manifest_entry, ["self", "io", "discard_deleted"]),
    (ancestors_of, ["current_snapshot", "table_metadata"]),
]


def test_the_pin_is_the_version_that_was_read() -> None:
    """Private functions change without notice: another version means reading this module's list again."""
    assert importlib.metadata.version("pyiceberg") == "0.12.0"


@pytest.mark.parametrize(("function", "parameters"), PRIVATE, ids=lambda x: getattr(x, "__qualname__", ""))
def test_a_function_that_we_use_takes_what_we_give(function: Any, parameters: list[str]) -> None:
    """A renamed parameter would fail in the middle of a publish."""
    assert list(inspect.signature(function).parameters)[: len(parameters)] == parameters


def test_updates_and_requirements_have_the_fields_that_we_fill() -> None:
    """The stock transaction deduplicates requirements by type; ours are built by hand."""
    assert AssertRefSnapshotId(ref="main", snapshot_id=None).snapshot_id is None
    assert AssertTableUUID.model_fields.keys() >= {"uuid"}
    assert SetSnapshotRefUpdate(ref_name="b", type="branch", snapshot_id=1).ref_name == "b"
    assert RemoveSnapshotRefUpdate(ref_name="b").ref_name == "b"


def test_a_producer_gives_its_updates_without_committing(tmp_path: Any) -> None:
    """One AddSnapshot and one SetSnapshotRef, which staging replaces by its own; the catalog is not touched."""
    catalog = sqlite_catalog(tmp_path)
    table = LocalTable(catalog, tmp_path).table
    producer, updates = build_snapshot(table, add=[], delete=[], summary={"k": "v"})
    assert [type(u) for u in updates] == [AddSnapshotUpdate, SetSnapshotRefUpdate]
    added = updates[0].snapshot
    assert (added.snapshot_id, added.parent_snapshot_id) == (
        producer.snapshot_id,
        table.metadata.current_snapshot_id,
    )
    assert added.summary.additional_properties["k"] == "v"
    assert catalog.load_table(table.name()).metadata_location == table.metadata_location
    close(catalog)


def test_a_manifest_entry_tells_who_added_it(tmp_path: Any) -> None:
    """added_files() reads status and snapshot id; a manifest says whether it has live files at all."""
    catalog = sqlite_catalog(tmp_path)
    local = LocalTable(catalog, tmp_path)
    outcome = local.commit("a", 1, {JAN: 10}, token=token_of("a"))
    snapshot = local.table.snapshot_by_id(outcome.snapshot_id)
    assert snapshot is not None
    (manifest,) = snapshot.manifests(local.table.io)
    assert (manifest.has_added_files(), manifest.added_snapshot_id) == (True, outcome.snapshot_id)
    (entry,) = manifest.fetch_manifest_entry(local.table.io)
    assert isinstance(entry, ManifestEntry)
    assert (entry.status.name, entry.snapshot_id) == ("ADDED", outcome.snapshot_id)
    assert isinstance(entry.data_file, DataFile)
    close(catalog)


@pytest.mark.parametrize("every", ["day", "month", "fiscal_period"])
@pytest.mark.parametrize("day", [date(1969, 12, 15), date(1970, 1, 31), date(2024, 2, 29)])
def test_our_partition_value_is_icebergs(every: Every, day: date) -> None:
    """The partition value of a tombstone is computed by us; readers compute theirs from the filter."""
    contract = replace(CONTRACT, grain=Grain(every))
    schema = iceberg_schema(contract, with_run_id=False)
    spec = partition_spec(schema, contract)
    transform = spec.fields[0].transform.transform(schema.find_type("order_date"))
    assert transform((day - date(1970, 1, 1)).days) == partition_value(spec, contract.grain.containing(day))
