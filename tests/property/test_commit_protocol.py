"""The commit protocol against a model of three lines, under any interleaving of attempts (stateful, seeded)."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from etl_resources.errors import FencedError, TransientError
from etl_resources.tables.publish import drop_branch, find_published
from tests.integration.local_table import (
    EMPTY,
    FEB,
    IDENTIFIER,
    JAN,
    LocalTable,
    close,
    prove_epochs_grow,
    sqlite_catalog,
)

PARTITIONS = st.sampled_from([JAN, FEB])
CONTENTS = st.dictionaries(PARTITIONS, st.sampled_from([EMPTY, 10, 20, 30]), min_size=1)
GOOD = st.sampled_from([None, {JAN}, {FEB}, {JAN, FEB}, set()])


class CommitProtocol(RuleBasedStateMachine):
    """Partition → (epoch, value) is all there is to know; the table must agree after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="commit-protocol-"))
        self.epoch = 0
        self.current: dict[str, tuple[int, int]] = {}
        self.before: dict[str, tuple[int, int]] = {}
        self.staged: dict[str, tuple[int, int, dict[str, int], dict[str, int]]] = {}
        """Attempt → (snapshot, epoch, contents, alias_of), while its branch is there."""
        self.ended: list[str] = []

    @initialize()
    def create(self) -> None:
        self.catalog = sqlite_catalog(self.folder)
        self.table = LocalTable(self.catalog, self.folder)

    @precondition(lambda self: self.current)
    @rule(data=st.data(), others=CONTENTS, at_once=st.booleans(), good=GOOD)
    def alias(self, data: st.DataObject, others: dict[str, int], at_once: bool, good: set[str] | None) -> None:
        """One partition turned out equal to what was published when its content was compared."""
        equal = data.draw(st.sampled_from(sorted(self.current)))
        base, value = data.draw(st.sampled_from([self.current[equal], self.before.get(equal, self.current[equal])]))
        attempt = self._stage({**others, equal: value}, {equal: base})
        if at_once:
            self._publish(attempt, good)

    def _stage(self, contents: dict[str, int], alias_of: dict[str, int]) -> str:
        self.epoch += 1
        attempt = f"attempt-{self.epoch}"
        snapshot = self.table.stage(attempt, self.epoch, contents, alias_of=alias_of)
        self.staged[attempt] = (snapshot, self.epoch, contents, alias_of)
        return attempt

    @rule(contents=CONTENTS, at_once=st.booleans(), good=GOOD)
    def compute(self, contents: dict[str, int], at_once: bool, good: set[str] | None) -> None:
        """An epoch is drawn and everything is staged; it is published at once, later or never."""
        attempt = self._stage(contents, {})
        if at_once:
            self._publish(attempt, good)

    @precondition(lambda self: self.staged)
    @rule(data=st.data(), good=GOOD)
    def publish(self, data: st.DataObject, good: set[str] | None) -> None:
        """By its writer, in time or as a zombie, whole or without what failed its audit."""
        self._publish(data.draw(st.sampled_from(sorted(self.staged))), good)

    def _publish(self, attempt: str, good: set[str] | None) -> None:
        snapshot, epoch, contents, alias_of = self.staged[attempt]
        wanted = {p for p in contents if good is None or p in good}
        winners = {p for p in wanted if epoch > self.current.get(p, (0, 0))[0]}
        if any(p in alias_of and self.current[p][0] != alias_of[p] for p in winners):
            with pytest.raises(TransientError):
                self.table.publish(attempt, snapshot, good)
            return
        outcome = self.table.publish(attempt, snapshot, good)
        assert {p.partition for p in outcome.published} == winners
        assert set(outcome.fenced) == wanted - winners
        assert (find_published(self.table.table, attempt) is not None) == bool(winners)
        self.before |= {p: self.current[p] for p in winners if p in self.current}
        self.current |= {p: (epoch, contents[p]) for p in winners}
        self._end(attempt)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def publish_again(self, data: st.DataObject) -> None:
        """What was published or declared dead has lost its right."""
        with pytest.raises(FencedError):
            self.table.publish(data.draw(st.sampled_from(self.ended)), 1)

    @precondition(lambda self: self.staged)
    @rule(data=st.data())
    def recover(self, data: st.DataObject) -> None:
        """An attempt is declared dead, whether it is or not."""
        attempt = data.draw(st.sampled_from(sorted(self.staged)))
        assert drop_branch(self.catalog, IDENTIFIER, attempt)
        assert not drop_branch(self.catalog, IDENTIFIER, attempt)
        self._end(attempt)

    def _end(self, attempt: str) -> None:
        del self.staged[attempt]
        self.ended.append(attempt)

    @invariant()
    def readers_see_what_the_newest_epochs_published(self) -> None:
        """No loss, no duplicate, no torn partition, no resurrection."""
        if not hasattr(self, "table"):
            return
        assert self.table.contents() == {p: v for p, (_, v) in sorted(self.current.items()) if v != EMPTY}
        assert self.table.epochs() == {p: e for p, (e, _) in sorted(self.current.items())}
        assert self.table.branches() == set(self.staged)

    def teardown(self) -> None:
        if hasattr(self, "table"):
            prove_epochs_grow(self.table)
            close(self.catalog)
        shutil.rmtree(self.folder, ignore_errors=True)


TestCommitProtocol = CommitProtocol.TestCase
TestCommitProtocol.settings = settings(max_examples=15, stateful_step_count=16, deadline=None)
