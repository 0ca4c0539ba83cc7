"""The checks that a manifest declares, with the names under which Dagster shows them."""

from collections.abc import Iterator
from dataclasses import dataclass

from etl_resources.contract import Contract
from etl_resources.manifest_columns import Rule
from etl_resources.manifest_tables import Check, Table
from etl_resources.quality.audit import Severity, check_name
from etl_resources.quality.conditions import Condition, conditions, reference_condition, row_condition


@dataclass(frozen=True)
class DeclaredCheck:
    """A check as it is told to Dagster."""

    name: str
    description: str
    severity: Severity


@dataclass(frozen=True)
class RowCheck:
    """A rule on rows that doesn't reject them: those that break it are counted."""

    told: DeclaredCheck
    conditions: tuple[Condition, ...]


_WHOLE = {
    "rejected_share": "share of rejected rows is within its bound",
    "rejected_rows": "number of rejected rows is within its bound",
    "rows": "number of rows is within its bound",
    "rows_change": "number of rows is near the median of the partitions before",
    "unique": "these columns are unique together",
    "freshness": "the newest row is new enough",
    "sql": "the query finds no offending row",
    "reconcile": "its sums equal the control totals of the captured snapshot",
}


def declared_checks(contract: Contract, table: Table) -> tuple[DeclaredCheck, ...]:
    """Everything that the manifest declares for a table beyond what every table has."""
    return (*(_whole(check) for check in table.checks), *(check.told for check in row_checks(contract)))


def row_checks(contract: Contract) -> Iterator[RowCheck]:
    """Rules of columns, those on several columns, references: those whose severity isn't reject."""
    for column in contract.columns:
        for rule in column.rules:
            if rule.severity != "reject":
                demands = tuple(conditions(column, rule))
                description = f"none of its values: {'; '.join(d.text for d in demands)}"
                yield RowCheck(DeclaredCheck(rule_name(column.name, rule), description, rule.severity), demands)
    for row_rule in contract.rules:
        if row_rule.severity != "reject":
            told = DeclaredCheck(row_rule.name, row_rule.reason or row_rule.expression, row_rule.severity)
            yield RowCheck(told, (row_condition(row_rule),))
    for reference in contract.references:
        if reference.severity != "reject":
            told = DeclaredCheck(reference_name(reference.asset), reference.reason, reference.severity)
            yield RowCheck(told, (reference_condition(reference),))


def reference_name(asset: str) -> str:
    """Name of the check of a reference that doesn't reject, e.g. references_silver_customers."""
    return f"references_{asset.replace('.', '_')}"


def rule_name(column: str, rule: Rule) -> str:
    """Name of the check of a column's rule, e.g. discount_ge_le."""
    demands = rule.model_dump(exclude_none=True, exclude={"severity", "name"})
    return rule.name or "_".join((column, *demands))


def _whole(check: Check) -> DeclaredCheck:
    return DeclaredCheck(check_name(check), check.description or _WHOLE[check.kind], check.severity)
