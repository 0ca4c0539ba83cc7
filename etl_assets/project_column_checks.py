"""Columns of contracts: each has a type, and its rule can be compared with values of that type."""

import re
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal, InvalidOperation

from etl_assets.project_resolve import TableDraft
from etl_resources.contract import ContractColumn
from etl_resources.errors import ManifestError
from etl_resources.manifest_columns import DECIMAL, Column, Rule
from etl_resources.manifest_tables import Check

TYPES = "bigint, int, string, date, timestamptz, boolean, decimal(precision,scale)"
BOUNDS = ("ge", "gt", "le", "lt")


def column_errors(draft: TableDraft) -> Iterator[ManifestError]:
    """Missing and impossible types, rules that fit no value, checks without a number."""
    section = "source" if draft.layer == "bronze" else draft.layer
    for column in draft.contract.columns:
        at = (section, "columns", column.name)
        message = _type_problem(draft, column)
        if message:
            yield draft.file.error(message, *at, "type")
        elif column.check:
            yield from _rule(draft, column, column.check)
        if column.reason and column.nullable and draft.layer != "bronze":
            message = f"column {column.name!r} has a reason for rejecting a null, and may be null"
            yield draft.file.error(f"{message}; add nullable: false, or take the reason away", *at, "reason")
    if draft.layer == "bronze":
        yield from _promises_of_source(draft)
        return
    for i, check in enumerate(draft.file.model.table(draft.layer).checks):
        yield from _check(draft, check, i)


def _type_problem(draft: TableDraft, column: ContractColumn) -> str | None:
    if not column.type:
        if draft.layer == "silver":
            source = draft.file.model.source
            names = ", ".join(source.columns) if source else "none"
            missing = f"column {column.name!r} has no type and the source has no such column"
            return f"{missing}: give its type ({TYPES}) or take one of the source: {names}"
        return f"column {column.name!r} has no type; valid: {TYPES}"
    found = DECIMAL.match(column.type)
    if found and int(found[2]) > int(found[1]):
        return f"column {column.name!r}: scale of {column.type} is above its precision; valid: 0 to {found[1]}"
    return None


def _promises_of_source(draft: TableDraft) -> Iterator[ManifestError]:
    source = draft.file.model.source
    columns: dict[str, Column] = source.columns if source else {}
    for name, column in columns.items():
        for key in ("nullable", "check", "reason"):
            if key in column.model_fields_set:
                message = f"column {name!r}: {key} isn't used in source, which is taken as delivered"
                yield draft.file.error(f"{message}; put it in silver", "source", "columns", name, key)


def _rule(draft: TableDraft, column: ContractColumn, rule: Rule) -> Iterator[ManifestError]:
    at = (draft.layer, "columns", column.name, "check")
    where = f"check of {column.name!r}"
    for key in BOUNDS:
        bound = getattr(rule, key)
        if bound is not None and not fits(bound, column.type):
            yield draft.file.error(f"{where}: {key} {bound!r} is not a value of type {column.type}", *at, key)
    for i, value in enumerate(rule.isin or ()):
        if not fits(value, column.type):
            message = f"{where}: isin {value!r} is not a value of type {column.type}"
            yield draft.file.error(message, *at, "isin", i)
    if rule.matches is None:
        return
    if column.type != "string":
        message = f"{where}: matches needs a column of type string, this is {column.type}"
        yield draft.file.error(message, *at, "matches")
    try:
        re.compile(rule.matches)
    except re.error as e:
        message = f"{where}: matches {rule.matches!r} is not a regular expression: {e}"
        yield draft.file.error(message, *at, "matches")


def _check(draft: TableDraft, check: Check, i: int) -> Iterator[ManifestError]:
    name = "rows" if check.rows else "rejected_share"
    rule = check.rows or check.rejected_share
    kind = "bigint" if check.rows else "decimal(38,18)"
    for key, value in rule.model_dump(exclude_none=True).items() if rule else ():
        at = (draft.layer, "checks", i, name, key)
        if key not in BOUNDS:
            yield draft.file.error(f"{name}: {key} can't be used on a number; valid: {', '.join(BOUNDS)}", *at)
        elif not fits(value, kind):
            yield draft.file.error(f"{name}: {key} {value!r} is not a number", *at)


def fits(value: int | str, type_: str) -> bool:
    """Whether a rule's value can be compared with a column of a manifest type."""
    if type_ == "string":
        return isinstance(value, str)
    try:
        if type_ in ("bigint", "int"):
            return int(value) == Decimal(value)
        if DECIMAL.match(type_):
            return Decimal(value).is_finite()
        if type_ == "date":
            return isinstance(value, str) and date.fromisoformat(value) is not None
        if type_ == "timestamptz":
            return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except (ValueError, InvalidOperation):
        return False
    return False
