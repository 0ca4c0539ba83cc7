"""Rereading what a store holds: whatever the columns of a contract are called."""

from datetime import date
from pathlib import Path
from unittest.mock import Mock

import duckdb

from etl_resources.contract import Contract, ContractColumn
from etl_resources.quality.stored_content import duplicate_keys, read_files
from etl_resources.tables.head import PartitionHead

CONTRACT = Contract(
    (ContractColumn("file", "string"), ContractColumn("first_day", "date"), ContractColumn("end_day", "date")),
    ("file",),
    "first_day",
)
SCHEMA = (
    "MAP {1: {name: 'file', type: 'VARCHAR', default_value: NULL}, "
    "2: {name: 'first_day', type: 'DATE', default_value: NULL}, "
    "3: {name: 'end_day', type: 'DATE', default_value: NULL}}"
)


def test_columns_may_be_called_as_the_words_of_verify(tmp_path: Path) -> None:
    """A contract of files with a first and an end day was ambiguous, and nothing of the platform was verified."""
    path = str(tmp_path / "part-0.parquet")
    with duckdb.connect() as engine:
        engine.execute(
            "copy (select * from (values ('a', date '2024-01-02', date '2024-03-01'), ('a', date '2024-02-01', null)) "
            "t(file, first_day, end_day)) "
            f"""to '{path}' (format parquet, field_ids {{"file": 1, "first_day": 2, "end_day": 3}})"""
        )
        head = PartitionHead(1, "", [Mock(file_path=path, record_count=2)])
        found = read_files(engine, CONTRACT, SCHEMA, {"2024-01": head})["2024-01"]
        (twice,) = duplicate_keys(engine, CONTRACT, SCHEMA, {"2024-01": head})

    assert (found.rows, found.outside) == (2, 1), f"one row is of {date(2024, 2, 1)}"
    assert (twice.keys, twice.surplus_rows) == (1, 1)
