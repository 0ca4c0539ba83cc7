"""What a test expected against what came out, row by row and column by column. Runs nothing."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from etl_assets.transform_tests.cases import Case, RejectedCase
from etl_assets.transform_tests.values import TypedRow, text_of

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Difference:
    """One row that isn't as expected; without a key: what is wrong with the whole."""

    message: str
    key: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Column: expected and got."""

    def lines(self) -> Iterator[str]:
        """For people: what is wrong with which row, then the columns in line."""
        row = ", ".join(f"{k} {v}" for k, v in self.key.items())
        yield f"{row}: {self.message}" if row else self.message
        name = max(map(len, self.columns), default=0)
        wanted = max((len(expected) for expected, _ in self.columns.values()), default=0)
        for column, (expected, got) in self.columns.items():
            yield f"  {column:{name}}  expected {expected:{wanted}}  got {got}"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        columns = {name: {"expected": expected, "got": got} for name, (expected, got) in self.columns.items()}
        return {"message": self.message, "key": dict(self.key), "columns": columns}


@dataclass(frozen=True)
class Outcome:
    """What a transform made of the given rows."""

    written: Sequence[TypedRow]
    rejected: Sequence[RejectedCase]


def differences(case: Case, outcome: Outcome) -> list[Difference]:
    """Everything in which the outcome isn't as expected: rows in the order of the file, then what nobody expected."""
    names = case.node.contract.key
    written: dict[Key, list[TypedRow]] = defaultdict(list)
    for row in outcome.written:
        written[_key(names, row)].append(row)
    rejected = {r.key: r.reasons for r in outcome.rejected}
    found = []
    for row in case.expected:
        key = _key(names, row)
        rows = written.pop(key, [])
        if not rows:
            why = f"rejected: {_reasons(rejected[key])}" if key in rejected else "neither written nor rejected"
            found.append(Difference(f"expected, but {why}", _shown(names, key)))
        elif len(rows) > 1:
            found.append(Difference(f"written {len(rows)} times", _shown(names, key)))
        elif columns := _columns(row, rows[0]):
            found.append(Difference("is different", _shown(names, key), columns))
    for key, rows in written.items():
        columns = {n: ("no such row", text_of(v)) for n, v in rows[0].items() if n not in names}
        times = f" {len(rows)} times" if len(rows) > 1 else ""
        found.append(Difference(f"written{times}, but not expected", _shown(names, key), columns))
    told = {_key(names, r) for r in case.expected} - {_key(names, r) for r in outcome.written}
    return [*found, *(d for key, d in _rejected_differences(case, outcome) if key not in told)]


def _rejected_differences(case: Case, outcome: Outcome) -> Iterator[tuple[Key, Difference]]:
    """Rows that share a key, such as those whose key is null, are compared by their reasons."""
    names = case.node.contract.key
    missing = Counter(case.rejected) - Counter(outcome.rejected)
    surplus = Counter(outcome.rejected) - Counter(case.rejected)
    for wanted in missing.elements():
        got = next((s for s in surplus.elements() if s.key == wanted.key), None)
        if got is None:
            expected = _reasons(wanted.reasons)
            message = f"expected to be rejected ({expected}), but is not"
            yield wanted.key, Difference(message, _shown(names, wanted.key))
        else:
            surplus -= Counter([got])
            reasons = {"reason": (_reasons(wanted.reasons), _reasons(got.reasons))}
            yield wanted.key, Difference("rejected for another reason", _shown(names, wanted.key), reasons)
    for got in surplus.elements():
        message = f"rejected, but not expected to be: {_reasons(got.reasons)}"
        yield got.key, Difference(message, _shown(names, got.key))


def _columns(expected: TypedRow, got: TypedRow) -> dict[str, tuple[str, str]]:
    return {n: (text_of(v), text_of(got[n])) for n, v in expected.items() if got[n] != v}


def _key(names: Sequence[str], row: TypedRow) -> Key:
    return tuple(row.get(n) for n in names)


def _shown(names: Sequence[str], key: Key) -> dict[str, str]:
    return {n: text_of(v) for n, v in zip(names, key, strict=True)}


def _reasons(reasons: frozenset[str]) -> str:
    return "; ".join(sorted(reasons))
