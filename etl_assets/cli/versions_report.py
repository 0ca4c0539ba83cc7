"""Versions, differences, rollbacks and pins as text and as JSON."""

from collections.abc import Sequence
from typing import Any, TextIO

from etl_assets.cli.rows import plain, text_of, write_table
from etl_assets.versions import Listing, RolledBack, commands
from etl_resources.ledger.pins import Pin
from etl_resources.tables.diff import CHANGED, RowDiff, TableDiff
from etl_resources.tables.versions import Version

MARKS = {"added": "+", "removed": "-", "changed": "~"}
PARTITIONS_SHOWN = 3


def listing_json(listing: Listing) -> dict[str, Any]:
    """For scripts; times in ISO 8601."""
    return {
        "table": listing.table,
        "versions": [_version_json(v) for v in listing.versions],
        "pins": [pin_json(p) for p in listing.pins],
    }


def pin_json(pin: Pin) -> dict[str, Any]:
    """For scripts."""
    return {
        "table": pin.asset, "partition": pin.partition, "version": pin.number, "reason": pin.reason,
        "pinned_at": pin.pinned_at.isoformat(),
    }  # fmt: skip


def _version_json(v: Version) -> dict[str, Any]:
    partitions = {p: s.rows for p, s in sorted(v.partitions.items())}
    return {
        "number": v.number, "published_at": v.published_at.isoformat(), "run_id": v.run_id, "rows": v.rows,
        "rows_added": v.rows_added, "partitions": partitions, "releases": list(v.names), "current": v.current,
        "rollback_to": v.rollback_to, "snapshot_id": v.snapshot_id,
    }  # fmt: skip


def print_listing(listing: Listing, partition: str | None, out: TextIO) -> None:
    """A line per version, then the pins."""
    columns = ("version", "published (UTC)", "run", "partitions", "rows", "±", "")
    types = ("BIGINT", "VARCHAR", "VARCHAR", "VARCHAR", "BIGINT", "BIGINT", "VARCHAR")
    rows = (
        (
            v.number,
            f"{v.published_at:%Y-%m-%d %H:%M:%S}",
            v.run_id if v.run_id.startswith("rollback-") else v.run_id[:8],
            _some(sorted(v.partitions)),
            f"{v.partitions[partition].rows:,}" if partition else f"{v.rows or 0:,}",
            "" if partition or v.rows_added is None else f"{v.rows_added:+,}",
            ", ".join([*(["current"] if v.current else []), *v.names, *_rolled(v)]),
        )
        for v in listing.versions
    )
    write_table(columns, types, rows, out)
    print_pins(listing.pins, out, none=False)


def _rolled(version: Version) -> list[str]:
    return [f"rollback to {version.rollback_to}"] if version.rollback_to is not None else []


def _some(partitions: Sequence[str]) -> str:
    if len(partitions) <= PARTITIONS_SHOWN:
        return ", ".join(partitions)
    return f"{len(partitions)}: {partitions[0]} … {partitions[-1]}"


def print_pins(pins: Sequence[Pin], out: TextIO, *, none: bool = True) -> None:
    """A line per pin."""
    for pin in pins:
        why = f": {pin.reason}" if pin.reason else ""
        print(f"pinned  {pin.asset}  {pin.partition}  to version {pin.number}{why}", file=out)
    if not pins and none:
        print("nothing is pinned", file=out)


def diff_json(table: str, found: TableDiff) -> dict[str, Any]:
    """For scripts; values that JSON doesn't know as text."""
    return {
        "table": table,
        "before": found.before.number,
        "after": found.after.number,
        "equal_partitions": found.equal_partitions,
        "partitions": [vars(p) for p in found.partitions],
        "rows": [
            {"partition": r.partition, "kind": r.kind, "key": plain(r.key), "changes": plain(r.changes)}
            for r in found.rows
        ],
        "rows_left_out": found.differing_rows - len(found.rows),
    }


def print_diff(table: str, found: TableDiff, out: TextIO) -> None:
    """Counts by partition, then the first rows."""
    print(f"{table}: version {found.before.number} → {found.after.number}", file=out)
    if not found.partitions:
        print(f"equal in all {found.equal_partitions} partitions", file=out)
        return
    rows = ((p.partition, p.added, p.removed, p.changed, p.equal) for p in found.partitions)
    types = ("VARCHAR", "BIGINT", "BIGINT", "BIGINT", "BIGINT")
    write_table(("partition", "added", "removed", "changed", "equal"), types, rows, out)
    print(f"{found.equal_partitions} other partitions are equal", file=out)
    for row in found.rows:
        print(_row_text(row), file=out)
    left_out = found.differing_rows - len(found.rows)
    if left_out:
        print(f"… and {left_out:,} more rows; --limit N shows more", file=out)


def _row_text(row: RowDiff) -> str:
    def text(value: Any) -> str:
        return "NULL" if value is None else text_of(value).replace("\n", "\\n")

    key = ", ".join(f"{k} {text(v)}" for k, v in row.key.items())
    if row.kind == CHANGED:
        details = "; ".join(f"{c}: {text(a)} → {text(b)}" for c, (a, b) in row.changes.items())
    else:
        side = 1 if row.kind == "added" else 0
        details = "; ".join(f"{c}: {text(pair[side])}" for c, pair in row.changes.items())
    return f"{MARKS[row.kind]} {row.partition}  {key}  {details}".rstrip()


def rollback_json(done: RolledBack) -> dict[str, Any]:
    """For scripts."""
    return {
        "table": done.table,
        "to": done.plan.version.number,
        "from": done.plan.head_number,
        "version": done.outcome.published.number if done.outcome else None,
        "dry_run": done.outcome is None,
        "partitions": {
            r.partition: {"rows_before": r.rows_before, "rows": r.rows, "version": r.version}
            for r in done.plan.partitions
        },
        "fenced": list(done.outcome.published.fenced) if done.outcome else [],
        "stale": {name: list(partitions) for name, partitions in done.stale.items()},
        "stuck": list(done.stuck),
        "commands": commands(done.stale),
    }


def print_rollback(done: RolledBack, out: TextIO) -> None:
    """What changed, what is pinned, who has to follow."""
    plan, outcome = done.plan, done.outcome
    if not plan.partitions:
        print(f"{done.table} holds what version {plan.version.number} held: nothing to do", file=out)
        return
    made = f", now version {outcome.published.number}" if outcome else " (dry run: nothing is changed)"
    print(f"{done.table}: version {plan.head_number} → content of version {plan.version.number}{made}", file=out)
    for r in plan.partitions:
        lost = "  not rolled back: a newer run published it first" if outcome and r.partition in (
            outcome.published.fenced) else ""  # fmt: skip
        gone = "  (the version didn't have it)" if r.after is None else ""
        print(f"  {r.partition}  {r.rows_before:,} → {r.rows:,} rows{gone}{lost}", file=out)
    print(f"pinned until `data-pipeline unpin {done.table}`" if outcome else "they would be pinned", file=out)
    if done.stale:
        print("out of date by this:", file=out)
        for name, partitions in done.stale.items():
            print(f"  {name}  {_some(partitions)}", file=out)
        print("let them follow:", *commands(done.stale), sep="\n  ", file=out)
    for line in done.stuck:
        print(f"note: {line}", file=out)
