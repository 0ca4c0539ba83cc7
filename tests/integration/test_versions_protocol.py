"""Rollback as a commit: fences, races, crashes, moved rows; what every reader sees, and what is pinned."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import boto3
import pytest

from etl_resources.errors import PermanentError, TransientError
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.pins import unpin
from etl_resources.planning import Plan, PlannedPartition, prove_unmoved
from etl_resources.tables.publish import find_published
from etl_resources.tables.rebuild import LostPublishes
from etl_resources.tables.table_store import TableStore
from tests.conftest import BUCKET
from tests.databases import query
from tests.integration.versioned_table import FEB, JAN, MAR, VersionedTable

pytest_plugins = ["tests.integration.versioned_table"]


def test_a_rollback_is_a_new_version_with_the_old_content(versioned: VersionedTable) -> None:
    """History is never rewritten: what was published in between can be read and rolled back to as well."""
    versioned.publish({JAN: {1: 10}, FEB: {2: 20}})
    files = {f for f in versioned.table.inspect.files()["file_path"].to_pylist() if JAN in f}
    versioned.publish({JAN: {1: 11, 3: 30}})
    before = versioned.epochs()

    outcome = versioned.roll_back(1)

    assert outcome is not None
    assert (outcome.number, [p.partition for p in outcome.published]) == (3, [JAN])
    assert versioned.contents() == {JAN: {1: 10}, FEB: {2: 20}}
    assert files <= set(versioned.table.inspect.files()["file_path"].to_pylist()), "no row is rewritten"
    assert versioned.epochs()[JAN] > before[JAN]
    assert versioned.epochs()[FEB] == before[FEB]
    assert versioned.pinned == {JAN}
    assert versioned.versions[0].rollback_to == 1
    current = versioned.ledger.current(versioned.address.asset)[JAN]
    first = versioned.ledger.at_epochs(versioned.address.asset, before)[FEB]
    assert (current.version.split("-")[0], current.rows, current.snapshot_id) == ("1", 1, outcome.snapshot_id)
    assert first.epoch == before[FEB]
    again = versioned.roll_back(2)
    assert again is not None
    assert versioned.contents()[JAN] == {1: 11, 3: 30}
    assert versioned.roll_back(2) is None


def test_a_partition_that_the_version_did_not_have_becomes_empty(versioned: VersionedTable) -> None:
    """It keeps its epoch by a marker: a writer that slept can't bring it back."""
    versioned.publish({JAN: {1: 10}})
    versioned.publish({FEB: {2: 20}})
    asleep = versioned.stage({FEB: {2: 21}})

    versioned.roll_back(1)

    assert versioned.contents() == {JAN: {1: 10}}
    assert versioned.pinned == {FEB}
    assert versioned.ledger.current(versioned.address.asset)[FEB].rows == 0
    assert asleep.publish().fenced == (FEB,)
    assert versioned.contents() == {JAN: {1: 10}}


def test_a_zombie_older_than_the_rollback_is_fenced(versioned: VersionedTable) -> None:
    """It staged before the rollback and wakes up after it: the disputed content must not come back."""
    versioned.publish({JAN: {1: 10}, FEB: {2: 20}})
    versioned.publish({JAN: {1: 11}})
    with versioned.another() as sleeper:
        asleep = sleeper.stage({JAN: {1: 12}, FEB: {2: 22}})
        versioned.roll_back(1, JAN)
        outcome = asleep.publish()
    assert (outcome.fenced, [p.partition for p in outcome.published]) == ((JAN,), [FEB])
    assert versioned.contents() == {JAN: {1: 10}, FEB: {2: 22}}


@pytest.mark.parametrize("partition", [JAN, FEB])
def test_a_publish_in_between_makes_the_rollback_look_again(versioned: VersionedTable, partition: str) -> None:
    """What was compared is no longer what is published; the rollback's content is decided anew, and wins."""
    versioned.publish({JAN: {1: 10}, FEB: {2: 20}})
    versioned.publish({JAN: {1: 11}})
    with versioned.another() as other:
        waiting = [other.stage({partition: {9: 99}})]

        def publish_first(stage: Callable[..., Any], *args: Any, **options: Any) -> Any:
            staged = stage(*args, **options)
            if waiting:
                waiting.pop().publish()
            return staged

        original = TableStore.stage
        with mock.patch.object(TableStore, "stage", lambda *args, **options: publish_first(original, *args, **options)):
            outcome = versioned.roll_back(1, JAN)
    assert outcome is not None
    assert outcome.fenced == ()
    assert versioned.contents()[JAN] == {1: 10}
    assert versioned.contents()[FEB] == ({9: 99} if partition == FEB else {2: 20})
    assert versioned.pinned == {JAN}
    assert set(versioned.table.refs()) == {"main"}


def test_rows_that_moved_since_are_rolled_back_with_their_partition_or_not_at_all(versioned: VersionedTable) -> None:
    """Row 1 was in January and is in February now: rolling back one of them counts it twice, or loses it."""
    versioned.publish({JAN: {1: 10, 2: 20}, FEB: {30: 30}, MAR: {60: 60}})
    versioned.publish({JAN: {2: 20}, FEB: {30: 30, 1: 10}, MAR: {60: 61}})
    for alone, other in ((JAN, FEB), (FEB, JAN)):
        with pytest.raises(PermanentError, match=rf"rows moved between partitions.*--partition {other}"):
            versioned.roll_back(1, alone)
    assert versioned.pinned == set()

    versioned.roll_back(1, JAN, FEB)

    assert versioned.contents() == {JAN: {1: 10, 2: 20}, FEB: {30: 30}, MAR: {60: 61}}
    current = versioned.ledger.current(versioned.address.asset)
    assert (current[JAN].linked, current[FEB].linked) == ((FEB,), (JAN,)), "dependants must follow with both"


def test_a_writer_planned_before_the_rollback_may_not_publish_the_other_half_of_a_move(
    versioned: VersionedTable,
) -> None:
    """January is fenced by its epoch; February alone would hold the row that January holds again."""
    versioned.publish({JAN: {1: 10}, FEB: {30: 30}})
    versioned.publish({JAN: {1: 11}})
    todo = PlannedPartition(FEB, "token", 1, (), None, (JAN,))
    the_plan = Plan(versioned.address.asset, "attempt", {}, (todo,))
    prove_unmoved(versioned.ledger, the_plan, [JAN, FEB])

    versioned.roll_back(1, JAN)

    with pytest.raises(TransientError, match=f"partition {FEB} exchanged rows with {JAN}, which a rollback pinned"):
        prove_unmoved(versioned.ledger, the_plan, [JAN, FEB])


@pytest.mark.parametrize("committed", [False, True])
def test_a_crash_leaves_content_and_pin_together(versioned: VersionedTable, committed: bool) -> None:
    """Killed before the commit: neither. Killed between commit and evidence: both, at the latest when settled."""
    versioned.publish({JAN: {1: 10}})
    versioned.publish({JAN: {1: 11}})
    died = KeyboardInterrupt("killed")
    where = (Ledger, "record_published") if committed else (TableStore, "publish")
    with (
        pytest.raises(KeyboardInterrupt),
        mock.patch.object(*where, side_effect=died),
        versioned.another() as session,
    ):
        session.roll_back(1)

    assert versioned.pinned == {JAN}, "planners wait until it is known what became of it"
    settled = versioned.store.settle(versioned.ledger, versioned.address)

    assert list(settled.values()) == ["published" if committed else "abandoned"]
    assert versioned.contents() == {JAN: {1: 10 if committed else 11}}
    assert versioned.pinned == ({JAN} if committed else set())
    assert set(versioned.table.refs()) == {"main"}
    assert versioned.ledger_versions() == ([1, 2, 3] if committed else [1, 2])
    (attempt,) = settled
    assert (find_published(versioned.table, attempt) is not None) == committed


def test_a_rollback_of_pinned_partitions_replaces_their_pin_only_if_it_succeeds(versioned: VersionedTable) -> None:
    """The older pin must hold when the newer rollback fails."""
    for value in (10, 11, 12):
        versioned.publish({JAN: {1: value}})
    versioned.roll_back(1)
    with (
        mock.patch.object(TableStore, "stage", side_effect=TransientError("no")),
        pytest.raises(TransientError),
    ):
        versioned.roll_back(2)
    assert numbers(versioned) == {JAN: 1}
    versioned.roll_back(2)
    assert numbers(versioned) == {JAN: 2}

    assert unpin(versioned.ledger.connection, versioned.address.asset, [JAN]) == [JAN]
    assert numbers(versioned) == {}
    assert versioned.contents() == {JAN: {1: 11}}


def test_a_rebuilt_ledger_knows_the_pins_of_what_is_published(versioned: VersionedTable) -> None:
    """A ledger that was lost must not undo a rollback in the next run; what was published since follows its inputs."""
    versioned.publish({JAN: {1: 10}, FEB: {2: 20}})
    versioned.publish({JAN: {1: 11}, FEB: {2: 21}})
    versioned.roll_back(1)
    unpin(versioned.ledger.connection, versioned.address.asset, [JAN])
    versioned.publish({JAN: {1: 12}})
    before = versioned.ledger.current(versioned.address.asset), numbers(versioned), versioned.ledger_versions()

    dsn, asset = versioned.settings.require_postgres(), [versioned.address.asset]
    of_asset = "attempt in (select attempt from etl.intents where asset = %s)"
    for rows in ("pins where asset = %s", "versions where asset = %s", "publishes where asset = %s",
                 f"intent_partitions where {of_asset}", "intents where asset = %s"):  # fmt: skip
        query(dsn, f"delete from etl.{rows}", asset)
    LostPublishes(versioned.store.catalog, versioned.ledger, versioned.address).restore_table()

    after = versioned.ledger.current(versioned.address.asset), numbers(versioned), versioned.ledger_versions()
    assert after == before
    assert before[1:] == ({FEB: 1}, [1, 2, 3, 4])


def numbers(versioned: VersionedTable) -> dict[str, int]:
    rows = query(
        versioned.settings.require_postgres(),
        "select partition, number from etl.current_pins where asset = %s",
        [versioned.address.asset],
    )
    return dict(rows)


def test_planning_a_rollback_changes_nothing(versioned: VersionedTable) -> None:
    """`--dry-run`: table, ledger and S3 are byte for byte what they were."""
    versioned.publish({JAN: {1: 10}, FEB: {2: 20}})
    versioned.publish({JAN: {1: 11}})
    before = everything(versioned)

    plan = versioned.rollback.plan("1")

    assert [(r.partition, r.rows_before, r.rows) for r in plan.partitions] == [(JAN, 1, 1)]
    assert everything(versioned) == before


def everything(versioned: VersionedTable) -> Any:
    endpoint, key, secret = versioned.settings.require_s3()
    s3 = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret,
                      region_name=versioned.settings.s3_region)  # fmt: skip
    prefix = versioned.address.location.removeprefix(f"s3://{BUCKET}/")
    objects = [(o["Key"], o["ETag"]) for o in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]]
    tables = ("intents", "intent_partitions", "publishes", "versions", "pins", "dead_letter_files", "migrations")
    dsn = versioned.settings.require_postgres()
    ledger = {t: sorted(map(str, query(dsn, f"select * from etl.{t}"))) for t in tables}
    return versioned.table.metadata_location, objects, ledger


def test_unknown_partitions_and_columns_of_another_time_are_refused(versioned: VersionedTable) -> None:
    """Nothing is published that wasn't proved to be the version's content."""
    versioned.publish({JAN: {1: 10}})
    versioned.publish({JAN: {1: 11}})
    with pytest.raises(PermanentError, match=f"has no partition {MAR}"):
        versioned.roll_back(1, MAR)
    query(
        versioned.settings.require_postgres(),
        "update etl.publishes set version = '1-0000-h2' where asset = %s and rows = 1 and epoch = "
        "(select min(epoch) from etl.publishes where asset = %s)",
        [versioned.address.asset] * 2,
    )
    with pytest.raises(PermanentError, match="reads differently by today's columns"):
        versioned.roll_back(1)
