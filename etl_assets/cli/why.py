"""`data-pipeline why`: whether a partition is up to date, and what made it so."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from etl_assets.backfill.why import DatedChange, Why


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(why)


def why(
    asset: Annotated[str, typer.Argument(help="A table or target, e.g. kpi.kpi_net_revenue.", show_default=False)],
    partition: Annotated[str, typer.Argument(help="E.g. 2024-05; all: of one without partitions.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Tell whether a partition is fresh, and if not, which input or which logic changed, when and by which run.

    Exit code 0: fresh, or closed; 3: stale, behind, failed or never computed; 4: pinned, or waiting for a person; 1: an
    error.
    """
    from etl_assets.backfill.why import why as explain
    from etl_assets.graph.runtime import Runtime
    from etl_assets.project import load_project

    found = explain(Runtime(load_project()), asset, partition)
    if as_json:
        print(json.dumps(_as_json(found), indent=2, ensure_ascii=False))
    else:
        _print(found)
    raise typer.Exit(found.exit_code)


def _print(found: "Why") -> None:
    from etl_assets.backfill.reasons import place_of

    print(f"{place_of(found.asset, found.partition)}: {found.status}")
    for line in (*_standing(found), *_reasons(found)):
        print(line)


def _standing(found: "Why") -> Iterator[str]:
    """What is published, and what a person or an attempt has to do with it."""
    if found.known:
        k = found.known
        yield f"published {k.published_at:%Y-%m-%d %H:%M:%S} UTC by run {k.run_id}: {k.rows:,} rows, epoch {k.epoch}"
    if found.closing:
        yield f"it was {found.closing}"
    if found.pin:
        yield f"it is {found.pin}"
    if found.waiting:
        who = f"accepted by {found.waiting.accepted_by}, not published yet" if found.waiting.accepted_by else "waits"
        yield f"a result {who} since {found.waiting.held_at:%Y-%m-%d %H:%M} UTC: data-pipeline acceptance list"
    if found.ended:
        e = found.ended
        state = "is under way, or its process died" if e.state == "open" else "published nothing of it"
        reason = f": {e.reason}" if e.reason else ""
        yield f"the last attempt (run {e.run_id}, {e.at:%Y-%m-%d %H:%M:%S} UTC) {state}{reason}"


def _reasons(found: "Why") -> Iterator[str]:
    """Why it is out of date, or what it is made from is."""
    from etl_assets.backfill.reasons import place_of, places, told

    yield from (f"  {_told(change)}" for change in found.changes)
    if found.missing:
        yield f"  not published yet: {places(found.missing)}"
    if found.problem:
        yield f"  a run would fail: {found.problem}"
    if found.upstream:
        yield "out of date upstream, first what is to be computed first:"
    for verdict in found.upstream:
        reasons = "; ".join(told(c) for c in verdict.changes) or verdict.state.value
        yield f"  {place_of(verdict.asset, verdict.partition)}: {reasons}"
    if found.is_source and found.status == "fresh":
        yield "its source was not looked at: data-pipeline plan does that"


def _told(dated: "DatedChange") -> str:
    from etl_assets.backfill.reasons import told

    change, text = dated.change, told(dated.change)
    if dated.parts:
        text += f": {', '.join(dated.parts)}"
    if change.before and change.after and change.before.version and change.after.version:
        text += f", from {_version(change.before)} to {_version(change.after)}"
    elif change.after and change.after.version:
        text += f", now {_version(change.after)}"
    if dated.at:
        text += f", {dated.at:%Y-%m-%d %H:%M:%S} UTC by run {dated.run_id}"
    return text


def _version(version: Any) -> str:
    return f"{version.version} (epoch {version.epoch})"


def _as_json(found: "Why") -> dict[str, Any]:
    from etl_assets.backfill.reasons import change_json

    known, ended = found.known, found.ended
    return {
        "asset": found.asset,
        "partition": found.partition,
        "status": found.status.value,
        "published": known
        and {
            "epoch": known.epoch, "version": known.version, "rows": known.rows, "run_id": known.run_id,
            "at": known.published_at.isoformat(),
        },
        "changes": [
            {**change_json(c.change), "run_id": c.run_id, "at": c.at and c.at.isoformat(), "parts": list(c.parts)}
            for c in found.changes
        ],
        "missing": [{"asset": a, "partition": p} for a, p in found.missing],
        "upstream": [
            {"asset": v.asset, "partition": v.partition, "state": v.state.value,
             "changes": [change_json(c) for c in v.changes]}
            for v in found.upstream
        ],
        "pin": found.pin and {
            "version": found.pin.number, "reason": found.pin.reason, "at": found.pin.pinned_at.isoformat()
        },
        "closed": found.closing and found.closing.as_json(),
        "waiting": found.waiting and {
            "since": found.waiting.held_at.isoformat(), "accepted_by": found.waiting.accepted_by
        },
        "last_attempt": ended and {
            "run_id": ended.run_id, "state": ended.state, "reason": ended.reason, "at": ended.at.isoformat()
        },
        "problem": found.problem,
    }  # fmt: skip
