"""The hash of everything that decides a table's content, and of nothing else (U5).

An upgrade of the product must not recompute the world: a field that is left at its default is not part of
the hash, so that a new optional field changes nobody's version. When a default changes, FORMAT goes up.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etl_resources.contract import Contract
from etl_resources.manifest import Calendar, Dataset
from etl_resources.manifest_columns import Rule
from etl_resources.manifest_sources import Source
from etl_resources.manifest_tables import Check
from etl_resources.manifest_targets import Target

FORMAT = 1
_TABLE_FIELDS = {"key", "load", "version", "grain", "inputs", "lookups", "rules", "references", "filters", "conserve"}


@dataclass(frozen=True)
class Logic:
    """What decides a content, and the digest of all of it."""

    version: str
    """64 hex digits."""
    parts: Mapping[str, str]
    """Name of a part (sql, columns, lookups …) → its digest: to tell which one changed."""

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> "Logic":
        """Of all that it consists of."""
        flat = {name: value for name, value in parts.items() if name != "table"} | parts.get("table", {})
        return cls(_digest(parts), {name: _digest(value)[:16] for name, value in flat.items()})


def table_logic(
    layer: str,
    dataset: Dataset,
    contract: Contract,
    calendar: Calendar,
    *,
    sql: str | None,
    control_sql: str | None,
    queries: Mapping[str, str] | None = None,
    hash_key: str | None = None,
    days: str | None = None,
    function: Mapping[str, Any] | None = None,
) -> Logic:
    """Prose, owner, runner, tenant and the first and last partition are not part.

    queries: SQL of checks by name. hash_key: identity of the key by which columns are hashed.
    days: digest of calendar.days, where the SQL reads it. function: of a Python transform (BatchFunction.logic).
    """
    parts: dict[str, Any] = {
        "format": FORMAT,
        "layer": layer,
        "partitions": dataset.partitions and {"by": dataset.partitions.by, "every": dataset.partitions.every},
        "calendar": {"time_zone": calendar.time_zone, "fiscal_year_start": calendar.fiscal_year_start}
        | ({"week_start": calendar.week_start} if dataset.partitions and dataset.partitions.every == "week" else {}),
    }
    if layer == "bronze":
        bronze = dataset.bronze.model_dump(mode="json", exclude_defaults=True) if dataset.bronze else {}
        keyed = {"hash_key": hash_key} if hash_key else {}
        return Logic.of({**parts, "source": _source(dataset.source), **bronze, **keyed})
    table = dataset.table(layer)
    parts |= {
        "sql": normalise_sql(sql or ""),
        "columns": _columns(contract),
        "table": table.model_dump(mode="json", exclude_defaults=True, include=_TABLE_FIELDS),
        "checks": sorted(_canonical(_check(c)) for c in table.checks),
    }
    if days:
        parts["calendar.days"] = days
    if function:
        parts["python"] = function
    if queries:
        parts["queries"] = sorted(map(normalise_sql, queries.values()))
    if dataset.kpi and dataset.kpi.accept and layer == "kpi":
        if accept := dataset.kpi.accept.reconcile:
            parts["reconcile"] = {
                "system": accept.system,
                "compare": accept.compare,
                "sql": normalise_sql(control_sql or ""),
                **accept.model_dump(mode="json", exclude_defaults=True, include={"by", "rejected"}),
            }
        if limit := dataset.kpi.accept.change:
            parts["change"] = limit.model_dump(mode="json", exclude_defaults=True)
    return Logic.of(parts)


def serving_logic(target: Target, contract: Contract) -> Logic:
    """What decides a served table beyond the content of the table that it is copied from."""
    return Logic.of(
        {
            "format": FORMAT,
            "target": target.model_dump(mode="json", exclude_defaults=True, exclude={"key"}),
            "key": target.key or contract.key,
            "columns": [{k: v for k, v in c.items() if k not in ("check", "reason")} for c in _columns(contract)],
            "partition_column": contract.partition_column,
            **({"grain": contract.grain.identity} if contract.grain.every != "month" else {}),
        }
    )


def normalise_sql(sql: str) -> str:
    """Line ends and white space at line ends don't decide anything."""
    return "\n".join(line.rstrip() for line in sql.strip().splitlines())


def _source(source: Source | None) -> dict[str, Any]:
    """A source without prose: its system by name, so that another secret is no other logic."""
    if source is None:
        return {}
    dumped = source.model_dump(mode="json", exclude_defaults=True, exclude={"columns"})
    columns = [
        {"name": n, "type": c.type} | ({"sensitive": c.sensitive} if c.sensitive else {})
        for n, c in source.columns.items()
        if c.sensitive != "drop"
    ]
    return {**dumped, "columns": columns}


def _columns(contract: Contract) -> list[dict[str, Any]]:
    """In contract order, which the content hash follows."""
    return [
        {"name": c.name, "type": c.type, "nullable": c.nullable, "check": _rules(c.rules)}
        | ({"reason": c.reason} if c.reason else {})
        for c in contract.columns
    ]


def _rules(rules: Sequence[Rule]) -> list[dict[str, Any]] | dict[str, Any] | None:
    """One rule is no list: it was none before a column could have several."""
    dumped = [_rule(r) for r in rules]
    return dumped if len(dumped) > 1 else next(iter(dumped), None)


def _rule(rule: Rule) -> dict[str, Any]:
    dumped = rule.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
    if "isin" in dumped:
        dumped["isin"] = sorted(dumped["isin"], key=_canonical)
    return dumped


def _check(check: Check) -> dict[str, Any]:
    return check.model_dump(mode="json", exclude_defaults=True, exclude={"name", "description"})


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _digest(parts: Any) -> str:
    return hashlib.sha256(_canonical(parts).encode()).hexdigest()
