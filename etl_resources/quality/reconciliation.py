"""Reconciliation: a KPI's partition against the control totals of the capture that it was made from (M15)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from etl_resources.quality.audit import RECONCILED, WITHIN_CHANGE, CheckResult, Difference

MAX_DIFFERENCES, MAX_KEPT = 5, 100
"""In a message; beside the held partition."""
CAPTURED, PUBLISHED = "in the capture", "published"
Row = Mapping[str, Any]
"""A row by column name."""


def reconcile(
    rows: Iterable[Row],
    totals: Iterable[Row],
    key: Sequence[str],
    compare: Mapping[str, str],
    capture: int,
) -> CheckResult:
    """Compare a partition with the control totals of its capture (M15).

    A group that isn't on both sides exactly once is a difference, and so is a measure without a number.
    """
    ours, theirs = _groups(rows, key), _groups(totals, key)
    differences: list[Difference] = []
    for group in sorted(ours.keys() | theirs.keys()):
        here, there, name = ours.get(group, []), theirs.get(group, []), " / ".join(group)
        if (len(here), len(there)) != (1, 1):
            differences.append(Difference(name, "rows", str(len(here)), str(len(there)), CAPTURED))
            continue
        for measure, tolerance in compare.items():
            a, b = _number(here[0][measure]), _number(there[0][measure])
            if a is None or b is None or abs(a - b) > Decimal(tolerance):
                differences.append(Difference(name, measure, _told(a), _told(b), CAPTURED))
    metadata: dict[str, Any] = {"groups": len(theirs), "differences": len(differences), "capture": capture}
    for measure in compare:
        numbers = (_number(r[measure]) for group_rows in theirs.values() for r in group_rows)
        metadata[f"total_{measure}"] = str(sum(n for n in numbers if n is not None))
    if differences:
        metadata["first"] = _first(differences)
    return CheckResult(RECONCILED, not differences, metadata=metadata, differences=differences[:MAX_KEPT])


def _groups(rows: Iterable[Row], key: Sequence[str]) -> dict[tuple[str, ...], list[Row]]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row[k]) for k in key), []).append(row)
    return groups


def _number(value: Any) -> Decimal | None:
    """None for null and NaN, which equal nothing."""
    number = None if value is None else Decimal(str(value))
    return number if number is not None and number.is_finite() else None


def reconcile_groups(
    published: Iterable[Row],
    rejected: Sequence[Row],
    totals: Iterable[Row],
    by: Sequence[str],
    compare: Mapping[str, str],
    capture: int,
) -> CheckResult:
    """Per group: captured = published + rejected. All three are summed; a group may be rejected as a whole."""
    here, there = _summed([*published, *rejected], by, compare), _summed(totals, by, compare)
    result = reconcile(here, there, by, compare, capture)
    counted = {f"rejected_{measure}": str(_sum([_number(r[measure]) for r in rejected])) for measure in compare}
    return replace(result, metadata={**result.metadata, **(counted if rejected else {})})


def within_change(
    rows: Iterable[Row], published: Iterable[Row], by: Sequence[str], within: Mapping[str, str]
) -> CheckResult:
    """Sums by group against those of what is published: each may differ by a share of it.

    A group that comes or goes has changed wholly, unless its sum is zero.
    """
    here, there = _summed(rows, by, within), _summed(published, by, within)
    ours, theirs = _groups(here, by), _groups(there, by)
    differences, largest = list[Difference](), dict.fromkeys(within, Decimal(0))
    for group in sorted(ours.keys() | theirs.keys()):
        for measure, share in within.items():
            a, b = (_number(side[group][0][measure]) if group in side else Decimal(0) for side in (ours, theirs))
            change = _change(a, b)
            if change is None or change > Decimal(share):
                differences.append(Difference(" / ".join(group) or "all rows", measure, _told(a), _told(b), PUBLISHED))
            largest[measure] = max(largest[measure], change if change is not None else Decimal(1))
    metadata: dict[str, Any] = {"groups": len(ours), "differences": len(differences)}
    metadata |= {f"change_of_{measure}": f"{change:.4f}" for measure, change in largest.items()}
    if differences:
        metadata["first"] = _first(differences)
    return CheckResult(WITHIN_CHANGE, not differences, metadata=metadata, differences=differences[:MAX_KEPT])


def _change(now: Decimal | None, before: Decimal | None) -> Decimal | None:
    """Share of what was before; 1 where nothing was; None where a number is missing."""
    if now is None or before is None:
        return None
    if before == 0:
        return Decimal(0) if now == 0 else Decimal(1)
    return abs(now - before) / abs(before)


def _first(differences: Sequence[Difference]) -> str:
    return "; ".join(map(str, differences[:MAX_DIFFERENCES]))


def _told(number: Decimal | None) -> str | None:
    return None if number is None else f"{number:f}"


def _summed(rows: Iterable[Row], by: Sequence[str], measures: Iterable[str]) -> list[Row]:
    """One row per group; a measure that is null in any of its rows has no sum."""
    names, groups = list(measures), _groups(rows, by)
    found: list[Row] = []
    for members in groups.values():
        sums = {name: _sum([_number(row[name]) for row in members]) for name in names}
        found.append({**{column: members[0][column] for column in by}, **sums})
    return found


def _sum(numbers: Sequence[Decimal | None]) -> Decimal | None:
    known = [n for n in numbers if n is not None]
    return sum(known, Decimal(0)) if len(known) == len(numbers) else None
