"""Rules on several columns, and the names of checks: each check of a table has one of its own."""

from collections.abc import Iterator

from etl_assets.project_resolve import TableDraft
from etl_resources.errors import ManifestError
from etl_resources.quality.audit import (
    CLOSED_PERIOD,
    CONTRACT_HELD,
    RECONCILED,
    ROWS_ACCOUNTED,
    STORED_CONTENT,
    UNIQUE_KEY,
    WITHIN_CHANGE,
    check_name,
)
from etl_resources.quality.declared_checks import reference_name, rule_name
from etl_resources.sql_expression import expression_problems

OWN_CHECKS = (ROWS_ACCOUNTED, UNIQUE_KEY, STORED_CONTENT, CONTRACT_HELD, RECONCILED, WITHIN_CHANGE, CLOSED_PERIOD)
"""Names of checks that the platform makes of every table or kpi."""


def rule_errors(draft: TableDraft) -> Iterator[ManifestError]:
    """Everything that is wrong in rules on several columns, and in names. Not for bronze, which has none."""
    rules: list[str] = []
    for i, rule in enumerate(draft.contract.rules):
        at: tuple[str | int, ...] = (draft.layer, "rules", i)
        if rule.name in rules:
            yield draft.file.error(f"rule {rule.name!r} is there twice: give each a name of its own", *at, "name")
        rules.append(rule.name)
        for problem in expression_problems(rule.expression, draft.contract.names):
            yield draft.file.error(f"expression of rule {rule.name!r}: {problem}", *at, "expression")
    names: list[str] = []
    for name, place in _named(draft):
        if name in OWN_CHECKS:
            message = f"a check is called {name!r}, as one that the platform makes itself: give it another `name`"
            yield draft.file.error(message, draft.layer, *place)
        elif name in names:
            message = f"two checks are called {name!r}: give one of them another `name`"
            yield draft.file.error(message, draft.layer, *place)
        names.append(name)


def _named(draft: TableDraft) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """Name of each declared check, and its place below the layer."""
    for column in draft.contract.columns:
        for rule in column.rules:
            if rule.severity != "reject":
                yield rule_name(column.name, rule), ("columns", column.name, "check")
    for i, row_rule in enumerate(draft.contract.rules):
        if row_rule.severity != "reject":
            yield row_rule.name, ("rules", i, "name")
    for asset, reference in draft.declared_references.items():
        if reference.severity != "reject":
            yield reference_name(asset), ("references", asset)
    for i, check in enumerate(draft.checks):
        yield check_name(check), ("checks", i)
