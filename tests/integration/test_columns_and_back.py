"""Columns that change and change back, and names that a delivery has twice: no row and no value gets lost between."""

import io
from datetime import date
from typing import Any

import pytest

from etl_resources.errors import PermanentError
from tests.integration.drifting import BEFORE, POSTGRES_TYPES, Drift, Make

pytest_plugins = ["tests.lake", "tests.integration.drifting"]

STAMP = "2024-03-01T00:00:00Z"


def stamped(make: Make, mode: str) -> Drift:
    """A table whose changes are told by a stamp alone."""
    drift = make("postgres", mode, change_column="stamp")
    drift.columns["stamp"] = "timestamptz"
    drift.deliver([{**row, "stamp": STAMP} for row in BEFORE], types=POSTGRES_TYPES | {"stamp": "timestamptz"})
    drift.statuses()
    return drift


def test_rejected_rows_come_back_when_their_column_has_its_type_again(make: Make) -> None:
    """No stamp tells of `alter table`: the rows would be missing for ever, in a month that looks unchanged."""
    drift = stamped(make, "quarantine")
    drift.lake.erp(f"insert into erp.{drift.name} values (3, '2024-02-16', 30, 'c', now())")
    drift.lake.erp(f"alter table erp.{drift.name} alter qty type text using qty || ' pcs'")
    drift.lake.erp(f"update erp.{drift.name} set qty = '20' where id = 2")
    assert drift.statuses() == {"2024-01": "pruned", "2024-02": "unchanged"}
    assert (drift.published(), drift.rejected()) == ([(1, 10, "a"), (2, 20, "b")], 1)
    assert set(drift.statuses().values()) == {"pruned"}

    drift.lake.erp(f"alter table erp.{drift.name} alter qty type int using replace(qty, ' pcs', '')::int")

    assert drift.statuses() == {"2024-01": "pruned", "2024-02": "published"}
    assert (drift.published(), drift.rejected()) == ([(1, 10, "a"), (2, 20, "b"), (3, 30, "c")], 0)
    assert set(drift.statuses().values()) == {"pruned"}
    drift.prove_whole()


def test_a_column_that_was_read_as_null_is_read_when_it_is_there_again(make: Make) -> None:
    """What was captured while it was gone has nulls that no stamp ends; what was not keeps its values."""
    drift = stamped(make, "evolve")
    drift.lake.erp(f"alter table erp.{drift.name} drop note")
    drift.lake.erp(f"update erp.{drift.name} set stamp = now() where id = 2")
    assert drift.statuses() == {"2024-01": "pruned", "2024-02": "published"}
    assert drift.published() == [(1, 10, "a"), (2, 20, None)]

    drift.lake.erp(f"alter table erp.{drift.name} add note text default 'back'")

    assert drift.statuses() == {"2024-01": "pruned", "2024-02": "published"}
    assert drift.published() == [(1, 10, "a"), (2, 20, "back")]
    drift.prove_whole()


@pytest.mark.parametrize("mode", [None, "evolve"])
def test_a_csv_header_with_a_name_twice(make: Make, mode: str | None) -> None:
    """One of two amounts would be taken, whichever comes first. Where nobody declared the name, neither is."""
    drift = make("csv", mode)
    drift.deliver(BEFORE)
    drift.statuses()

    drift.put(b"id,day,qty,note,qty\n1,2024-01-15,99,a,10\n")
    with pytest.raises(PermanentError, match=r"d_\w+/a has more than one column qty; which one is meant\?"):
        drift.capture()
    assert drift.published() == [(1, 10, "a"), (2, 20, "b")]

    drift.put(b"id,day,qty,note,x,x\n3,2024-01-15,30,c,1,2\n")
    drift.statuses()
    assert drift.published() == [(3, 30, "c")]
    assert [(c.column, c.action) for c in drift.changes()] == [("x (more than once)", "left out")]


@pytest.mark.parametrize(
    ("columns", "refused"),
    [
        ({"note": ["z"], "QTY": [99], "qty": [30]}, r"has more than one column qty; which one is meant"),
        ({"qty": [30], "x": [{"note": "nested"}]}, r"note \(string\) is missing in d_\w+/b"),
    ],
    ids=["in capitals", "inside of another column"],
)
def test_a_parquet_file_with_another_column_of_that_name(
    make: Make, columns: dict[str, list[Any]], refused: str
) -> None:
    """The engine takes QTY for qty; a field inside of a struct is no column, and the file's rows would have none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    drift = make("parquet", None)
    drift.deliver(BEFORE)
    drift.statuses()
    out = io.BytesIO()
    pq.write_table(pa.table({"id": [3], "day": [date(2024, 1, 1)], **columns}), out)

    drift.put(out.getvalue(), "b")

    with pytest.raises(PermanentError, match=refused):
        drift.capture()
    assert drift.published() == [(1, 10, "a"), (2, 20, "b")]


@pytest.mark.parametrize(("kind", "mode"), [("postgres", "evolve"), ("json_lines", None), ("csv", "evolve")])
def test_a_rename_that_the_source_has_not_made_yet_is_refused(make: Make, kind: str, mode: str | None) -> None:
    """A manifest that comes too early would publish nulls in place of values that are there, under the old name."""
    drift = make(kind, mode)
    drift.deliver(BEFORE)
    drift.statuses()
    del drift.columns["note"]
    drift.columns["remark"] = {"type": "string", "renamed_from": "note"}

    with pytest.raises(
        PermanentError, match=r"remark \(string\) is missing in the source, which still calls it note\. "
    ):
        drift.capture()
    drift.deliver(
        [{"remark" if k == "note" else k: v for k, v in row.items()} for row in BEFORE],
        types=POSTGRES_TYPES | {"remark": "text"},
    )

    drift.statuses()
    assert drift.published("id, remark") == [(1, "a"), (2, "b")]
