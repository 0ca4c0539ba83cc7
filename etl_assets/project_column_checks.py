"""Columns of contracts: each has a type, and its rule can be compared with values of that type."""

import re
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal, InvalidOperation

from etl_assets.project_resolve import TableDraft
from etl_assets.project_rule_checks import rule_errors
from etl_resources.contract import ContractColumn
from etl_resources.errors import ManifestError
from etl_resources.manifest_columns import DECIMAL, Column, Rule

TYPES = "bigint, int, string, date, timestamptz, boolean, decimal(precision,scale)"
BOUNDS = ("ge", "gt", "le", "lt")


def column_errors(draft: TableDraft) -> Iterator[ManifestError]:
    """Missing and impossible types, rules that fit no value."""
    section = "source" if draft.layer == "bronze" else draft.layer
    for column in draft.contract.columns:
        at = (section, "columns", column.name)
        message = _type_problem(draft, column)
        if message:
            yield draft.file.error(message, *at, "type")
        else:
            yield from _rules(draft, column)
        if column.reason and column.nullable and draft.layer != "bronze":
            message = f"column {column.name!r} has a reason for rejecting a null, and may be null"
            yield draft.file.error(f"{message}; add nullable: false, or take the reason away", *at, "reason")
    yield from _renames(draft, section)
    if draft.layer == "bronze":
        yield from _promises_of_source(draft)
        return
    yield from rule_errors(draft)


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


def _renames(draft: TableDraft, section: str) -> Iterator[ManifestError]:
    """A former name is no name of today, and of one column."""
    names, taken = draft.contract.names, set[str]()
    for column in draft.contract.columns:
        old = column.renamed_from
        if old is None:
            continue
        if old in names:
            problem = f"which is a column of {section}: take that one out"
        elif old in taken:
            problem = "which another column was renamed from, too: keep one"
        else:
            taken.add(old)
            continue
        message = f"column {column.name!r} is renamed from {old!r}, {problem}"
        yield draft.file.error(message, section, "columns", column.name, "renamed_from")


def _promises_of_source(draft: TableDraft) -> Iterator[ManifestError]:
    source = draft.file.model.source
    columns: dict[str, Column] = source.columns if source else {}
    for name, column in columns.items():
        for key in ("nullable", "check", "reason"):
            if key in column.model_fields_set:
                message = f"column {name!r}: {key} isn't used in source, which is taken as delivered"
                yield draft.file.error(f"{message}; put it in silver", "source", "columns", name, key)


def _rules(draft: TableDraft, column: ContractColumn) -> Iterator[ManifestError]:
    at: tuple[str | int, ...] = (draft.layer, "columns", column.name, "check")
    listed = (*at, 0) in draft.file.lines
    for i, rule in enumerate(column.rules):
        for message, path in _problems(column, rule):
            place = (*at, i, *path) if listed else (*at, *path)
            yield draft.file.error(f"check of {column.name!r}: {message}", *place)


def _problems(column: ContractColumn, rule: Rule) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """What doesn't fit the column's type: message, and the field of the rule."""
    for key in BOUNDS:
        bound = getattr(rule, key)
        if bound is not None and not fits(bound, column.type):
            yield f"{key} {bound!r} is not a value of type {column.type}", (key,)
    for i, value in enumerate(rule.isin or ()):
        if not fits(value, column.type):
            yield f"isin {value!r} is not a value of type {column.type}", ("isin", i)
    for key in ("matches", "length"):
        if getattr(rule, key) is not None and column.type != "string":
            yield f"{key} needs a column of type string, this is {column.type}", (key,)
    if rule.matches is not None:
        try:
            re.compile(rule.matches)
        except re.error as e:
            yield f"matches {rule.matches!r} is not a regular expression: {e}", ("matches",)


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
