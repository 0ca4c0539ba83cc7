"""What a partition is against its inputs and its logic of now, and in what it differs from what it was made from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from etl_resources.adjustments import is_restated
from etl_resources.ledger.lineage import is_control
from etl_resources.ledger.state import Place
from etl_resources.run_token import ABSENT, InputVersion


class State(StrEnum):
    """What a partition is, against its inputs and its logic of now."""

    FRESH = "fresh"
    STALE = "stale"
    NEVER = "never computed"
    UNKNOWN = "may be stale"
    """A table that it looks up changed, and it isn't known whether for the rows that it looks up."""


class ChangeKind(StrEnum):
    """In what a partition differs from what it was made from."""

    CONTENT = "content changed"
    APPEARED = "was not read before"
    VANISHED = "is not read any more"
    LOOKED_UP = "looked-up rows changed"
    PERHAPS_LOOKED_UP = "looked-up table changed"
    TOTALS = "control totals changed"
    RESTATED = "its inputs give another content than what was closed"
    LOGIC = "logic changed"
    SOURCE = "source changed"
    CAPTURED_APART = "captured apart from its siblings"
    NO_TOTALS = "captured without control totals"


@dataclass(frozen=True)
class Change:
    """One reason why a partition is out of date."""

    kind: ChangeKind
    asset: str
    """Input that changed; for logic, the asset itself."""
    partition: str
    before: InputVersion | None = None
    after: InputVersion | None = None


@dataclass(frozen=True)
class Verdict:
    """What one partition is, and what it would be made from now."""

    asset: str
    partition: str
    state: State
    changes: tuple[Change, ...] = ()
    inputs: tuple[InputVersion, ...] = ()
    token: str | None = None
    """Of a run now; None of a source, and where an input is missing or unknown."""
    missing: tuple[Place, ...] = ()
    """Inputs that aren't published and must be."""


@dataclass(frozen=True)
class Observation:
    """What a look at a partition of a source found."""

    fingerprint: str
    kinds: tuple[ChangeKind, ...] = ()
    """Why it would be captured again."""


def differences(before: Sequence[InputVersion], now: Sequence[InputVersion]) -> Iterator[Change]:
    """In what two sets of inputs differ. A table that is looked up in two ways is compared by the pair of versions."""
    old, new = _by_place(before), _by_place(now)
    for key in dict.fromkeys((*new, *old)):
        asset, partition, looked_up = key
        was, become = old.get(key, []), new.get(key, [])
        if sorted(v.version for v in was) == sorted(v.version for v in become):
            continue
        first_was, first_become = next(iter(was), None), next(iter(become), None)
        if is_restated(asset):
            yield Change(ChangeKind.RESTATED, asset.partition("@")[2], partition, first_was, first_become)
        elif is_control(asset):
            yield Change(ChangeKind.TOTALS, asset, partition, first_was, first_become)
        elif looked_up and any(not v.version for v in become):
            yield Change(ChangeKind.PERHAPS_LOOKED_UP, asset, partition, first_was, first_become)
        elif first_was is None or (first_was.version == ABSENT and first_become):
            yield Change(ChangeKind.APPEARED, asset, partition, None, first_become)
        elif first_become is None or first_become.version == ABSENT:
            yield Change(ChangeKind.VANISHED, asset, partition, first_was, None)
        else:
            kind = ChangeKind.LOOKED_UP if looked_up else ChangeKind.CONTENT
            yield Change(kind, asset, partition, first_was, first_become)


def _by_place(inputs: Sequence[InputVersion]) -> dict[tuple[str, str, bool], list[InputVersion]]:
    found: dict[tuple[str, str, bool], list[InputVersion]] = {}
    for i in inputs:
        found.setdefault((i.asset, i.partition, i.looked_up), []).append(i)
    return found
