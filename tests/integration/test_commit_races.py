"""What happens during a commit: lost answers, lost races, recovery. Decisions are taken again on the new head (M7)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitStateUnknownException
from pyiceberg.table import Table
from sqlalchemy.exc import OperationalError

from etl_resources.errors import FencedError, TransientError, UnknownCommitError
from etl_resources.tables.commit import ConflictError, retry_conflicts
from etl_resources.tables.publish import drop_branch
from tests.integration.local_table import FEB, IDENTIFIER, JAN, MAR, LocalTable

pytest_plugins = ["tests.integration.local_table"]


class Interfering:
    """A catalog in which something happens around the first commit that is sent."""

    def __init__(self, catalog: Catalog, *, before: Any = None, after: Any = None, lose: bool = False) -> None:
        self._catalog, self._before, self._after, self._lose = catalog, before, after, lose
        self.commits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def commit_table(self, *request: Any) -> Any:
        self.commits += 1
        if self.commits > 1:
            return self._catalog.commit_table(*request)
        if self._before is not None:
            self._before()
        if self._lose:
            raise self._after
        answer = self._catalog.commit_table(*request)
        if self._after is not None:
            raise self._after
        return answer


def unknown() -> Exception:
    return CommitStateUnknownException("504 Gateway Timeout")


def lost() -> Exception:
    return OperationalError("UPDATE iceberg_tables", {}, Exception("server closed the connection"))


@pytest.mark.parametrize("answer", [unknown, lost])
@pytest.mark.parametrize("rebased", [False, True])
def test_a_publish_whose_answer_is_lost_is_read_back(
    table: LocalTable, answer: Callable[[], Exception], rebased: bool
) -> None:
    """The commit was made, the answer wasn't heard: resending would fail, giving up would lose the evidence."""
    staged = table.stage("a", 2, {JAN: 20, FEB: 20})
    if rebased:
        table.commit("b", 3, {JAN: 30})
    outcome = table.publish("a", staged, catalog=Interfering(table.catalog, after=answer()))
    assert outcome.how == "read_back"
    assert {p.partition for p in outcome.published} == ({FEB} if rebased else {JAN, FEB})
    assert outcome.fenced == ((JAN,) if rebased else ())
    assert table.contents()[FEB] == 20


@pytest.mark.parametrize("answer", [unknown, lost])
def test_a_publish_that_may_still_arrive_is_not_resent(table: LocalTable, answer: Callable[[], Exception]) -> None:
    """Nothing of it is on main: the error says unknown, the branch stays for recovery to fence."""
    staged = table.stage("a", 2, {JAN: 20})
    silent = Interfering(table.catalog, after=answer(), lose=True)
    with pytest.raises(UnknownCommitError, match="no answer to a commit"):
        table.publish("a", staged, catalog=silent)
    assert (silent.commits, table.contents(), table.branches()) == (1, {}, {"a"})


def test_staging_whose_answer_is_lost_is_read_back(table: LocalTable) -> None:
    """The branch tells: it points at our snapshot."""
    staged = table.stage("a", 1, {JAN: 10}, catalog=Interfering(table.catalog, after=unknown()))
    assert table.publish("a", staged).how == "fast_forward"
    with pytest.raises(UnknownCommitError):
        table.stage("b", 2, {JAN: 20}, catalog=Interfering(table.catalog, after=unknown(), lose=True))


def test_a_drop_whose_answer_is_lost_is_read_back(table: LocalTable) -> None:
    """Recovery must not fail after the fence is up."""
    table.stage("a", 1, {JAN: 10})
    assert drop_branch(Interfering(table.catalog, after=unknown()), IDENTIFIER, "a") is True  # type: ignore[arg-type]
    assert table.branches() == set()


def race(table: LocalTable, event: str) -> Any:
    """Something that happens between the decision of a publish of w1 (epoch 5) and its commit."""
    return {
        "another partition": lambda: table.commit("w2", 6, {FEB: 60}),
        "the same partition": lambda: table.commit("w2", 6, {JAN: 60}),
        "an older epoch": lambda: table.commit("w0", 4, {JAN: 40}),
        "recovery": lambda: drop_branch(table.catalog, IDENTIFIER, "w1"),
        "another staging": lambda: table.stage("w2", 6, {JAN: 60}),
    }[event]


@pytest.mark.parametrize(
    ("event", "how", "contents"),
    [
        ("another partition", "rebase", {JAN: 50, FEB: 60}),
        ("the same partition", "fenced", {JAN: 60}),
        ("an older epoch", "rebase", {JAN: 50}),
        ("another staging", "fast_forward", {JAN: 50}),
    ],
)
@pytest.mark.parametrize("rebased", [False, True])
def test_what_happens_during_a_publish_is_seen(
    table: LocalTable, event: str, how: str, contents: dict[str, int], rebased: bool
) -> None:
    """The decision was taken on a head that is gone: it is taken again, on the new one."""
    staged = table.stage("w1", 5, {JAN: 50})
    if rebased:
        table.commit("w00", 3, {MAR: 30})
        contents, how = {**contents, MAR: 30}, "rebase" if how == "fast_forward" else how
    outcome = table.publish("w1", staged, catalog=Interfering(table.catalog, before=race(table, event)))
    assert outcome.how == how
    assert table.contents() == contents


@pytest.mark.parametrize("rebased", [False, True])
def test_recovery_during_a_publish_wins(table: LocalTable, rebased: bool) -> None:
    """Either the publish is in main's history or the branch was dropped before: never both, never neither."""
    staged = table.stage("w1", 5, {JAN: 50})
    if rebased:
        table.commit("w0", 3, {MAR: 30})
    with pytest.raises(FencedError):
        table.publish("w1", staged, catalog=Interfering(table.catalog, before=race(table, "recovery")))
    assert JAN not in table.contents()


def test_a_conflict_leaves_no_manifest_behind(table: LocalTable) -> None:
    """Every lost race would otherwise leave files that nothing refers to."""
    table.commit("w0", 1, {MAR: 10})
    staged = table.stage("w1", 5, {JAN: 50})
    table.commit("w2", 6, {FEB: 60})
    racing = Interfering(table.catalog, before=lambda: table.commit("w3", 7, {MAR: 70}))
    assert table.publish("w1", staged, catalog=racing).tries == 2
    metadata = table.table.metadata
    lists = {s.manifest_list for s in metadata.snapshots}
    manifests = {m.manifest_path for s in metadata.snapshots for m in s.manifests(table.table.io)}
    on_disk = {str(p) for p in Path(table.location, "metadata").glob("*.avro")}
    assert {Path(p).name for p in on_disk} == {Path(p).name for p in lists | manifests}


def test_what_must_hold_beside_the_audit_is_proved_at_every_try(table: LocalTable) -> None:
    """What was true of the first head may be wrong of the next."""
    staged = table.stage("w1", 5, {JAN: 50})
    heads: list[int | None] = []

    def prove(head: Table) -> None:
        heads.append(head.metadata.current_snapshot_id)
        if len(heads) == 2:
            raise TransientError("a captured row was published elsewhere")

    racing = Interfering(table.catalog, before=race(table, "another partition"))
    with pytest.raises(TransientError, match="published elsewhere"):
        table.publish("w1", staged, catalog=racing, prove=prove)
    assert len(set(heads)) == 2
    assert table.contents() == {FEB: 60}


def test_conflicts_are_retried_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that never settles is an error, not a hang; other errors aren't retried at all."""
    waits: list[float] = []
    monkeypatch.setattr("etl_resources.tables.commit.time.sleep", waits.append)
    calls: list[int] = []

    def conflict(n: int) -> None:
        calls.append(n)
        raise ConflictError("moved")

    with pytest.raises(ConflictError):
        retry_conflicts(conflict, max_tries=8)
    assert calls == list(range(1, 9))
    assert len(waits) == 7
    assert max(waits) <= 0.5
