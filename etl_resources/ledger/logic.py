"""Which parts the logic of an asset consisted of when it was published: to tell which of them changed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etl_resources.ledger.state import Place
from etl_resources.run_token import InputVersion, run_token

if TYPE_CHECKING:
    import psycopg


def changed_parts(
    connection: "psycopg.Connection[Any]",
    tenant: str,
    place: Place,
    token: str,
    inputs: Sequence[InputVersion],
    now: Mapping[str, str],
) -> list[str]:
    """Parts that differ from those by which a partition was made: of the version that gives its token.

    Empty where that version isn't remembered.
    """
    asset, partition = place
    rows = connection.execute(
        "select logic_version, parts from etl.logic_versions where asset = %s order by seen_at desc", (asset,)
    ).fetchall()
    for version, parts in rows:
        made = run_token(tenant=tenant, asset=asset, partition=partition, logic_version=version, inputs=inputs)
        if made == token:
            return sorted(n for n in {*parts, *now} if parts.get(n) != now.get(n))
    return []
