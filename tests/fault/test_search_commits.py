"""Commits of an Elasticsearch target that fail halfway: what is told, and what the next run makes of it."""

from collections.abc import Callable, Mapping

import pytest

from tests.fault.http_proxy import faulty
from tests.search_target import Rows, SearchTarget

pytest_plugins = ["tests.search_target"]

MakeTarget = Callable[[str], SearchTarget]
OLD: Mapping[str, Rows] = {"2024-01": Rows(12, 3), "2024-02": Rows(8, 5)}
NEW: Mapping[str, Rows] = {"2024-01": Rows(10, 7), "2024-02": Rows(9, 11)}


def test_a_commit_that_ends_between_two_partitions_fails_the_run(make_target: MakeTarget) -> None:
    """One commit record was written and the other wasn't: nobody published the second, and "superseded" hid that."""
    target = make_target("upsert")
    target.serve(OLD)

    def refuse(method: str, path: str, _: int) -> int | None:
        return 503 if "/_doc/2024-02" in path and method in ("POST", "PUT") else None

    with faulty(target.env["ETL_ELASTICSEARCH_URL"], refuse) as proxy:
        half = target.serve(NEW, ETL_ELASTICSEARCH_URL=proxy.url, ETL_RETRY_ELAPSED_S_MAX="1")

    assert (half.published, half.fenced) == ([], [])
    assert "503" in half.errors[0]
    assert target.ledger("select state from etl.intents where asset = %s and state = 'open'", target.asset) == []
    done = target.serve(NEW)
    assert (done.published, done.pruned) == (["2024-02"], ["2024-01"]), done
    target.prove_whole(NEW)


@pytest.mark.parametrize(
    ("dying", "point"),
    [
        pytest.param(
            {"2024-01": Rows(12, 3, moved_in=2, moved_from="2024-02"), "2024-02": Rows(8, 5, moved_out=2)},
            "elasticsearch.filled",
            id="rows moved to the first partition",
        ),
        pytest.param({"2024-01": Rows(0), "2024-02": Rows(8, 5)}, "elasticsearch.before_commit", id="emptied"),
    ],
)
def test_a_source_that_reverts_after_a_crash_is_served_whole(
    make_target: MakeTarget, dying: Mapping[str, Rows], point: str
) -> None:
    """A partition that lost documents to a dead attempt has its old token, and none that names the attempt's epoch."""
    target = make_target("upsert")
    target.serve(OLD)

    assert target.result(target.spawn(dying, points=[{"point": point, "action": "kill"}])) is None
    done = target.serve(OLD)

    assert not done.errors, done
    target.prove_whole(OLD)
