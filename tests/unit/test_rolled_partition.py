"""What a rollback puts back of a partition, and from what it is said to be made."""

from typing import Any

from etl_resources.contract import Contract
from etl_resources.ledger.records import Publish
from etl_resources.rollback_plan import RolledPartition
from etl_resources.run_token import InputVersion
from etl_resources.tables.address import TableAddress

ADDRESS = TableAddress("kpi", "revenue", "acme", Contract((), (), None), "logic", "tiny", "lake")
READ = (InputVersion("silver.orders", "2024-05", "2:aa", 7),)


def publish(**account: Any) -> Publish:
    values = (9, "token", "1:cc", 1, 1, None, READ, (), None, None, {}, "run", "attempt", {"read": 2, **account})
    return Publish("kpi.revenue", "2024-05", *values)


def rolled(after: Publish) -> RolledPartition:
    return RolledPartition("2024-05", None, 0, after)


def test_a_version_is_made_from_what_its_publish_read() -> None:
    """Unpinned it is up to date again if its inputs are as they were."""
    assert (rolled(publish()).token(ADDRESS), rolled(publish()).inputs) == ("token", READ)


def test_closed_figures_that_are_put_back_are_not_what_their_inputs_give() -> None:
    """Unpinned, the open period would be fresh with the figures of when it was closed; and adjustments would book on
    top of them what its inputs gave then."""
    closed = publish(restated="2:dd", restated_path="s3://lake/gone.parquet")
    assert rolled(closed).inputs == ()
    assert rolled(closed).token(ADDRESS) != "token"
    assert closed.own_account == publish().account
