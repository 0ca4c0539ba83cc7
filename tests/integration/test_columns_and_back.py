"""Columns that change and change back, and names that a delivery has twice: no row and no value gets lost between."""

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
