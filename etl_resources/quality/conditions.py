"""What a rule of the manifest demands, as SQL conditions with a stable name and a text."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from etl_resources.contract import ContractColumn, ContractReference
from etl_resources.identifiers import literal, quote, quote_qualified
from etl_resources.lookups import FOUND, relation_name
from etl_resources.manifest_columns import DECIMAL, RowRule, Rule
from etl_resources.sensitive import MASK
from etl_resources.tables.schema import duckdb_type

_SQL_OPERATORS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


@dataclass(frozen=True)
class Condition:
    """One demand on a row."""

    rule: str
    """Stable name: ge, gt, le, lt, isin, matches, length, or that of a rule on several columns."""
    column: str | None
    """None: several columns."""
    broken: str
    """DuckDB expression: true where a row breaks it, else false or null. Columns are named as in the contract."""
    text: str
    """What is wrong with such a row."""


def type_conditions(column: ContractColumn, *, from_text: bool) -> Iterator[Condition]:
    """That a value has its type, isn't a hash's mask, and is there. The engine has the row as given in typed._payload.

    from_text: the transform gives text, of which what doesn't parse is null.
    """
    raw, typed = f"typed._payload.{quote(column.name)}", f"typed.{quote(column.name)}"
    if from_text and column.type != "string":
        unparsed = f"{raw} is not null and {typed} is null"
        yield Condition("type", column.name, unparsed, f"{column.name} is not a {column.type}")
    if column.cover and column.cover.mode == "hash" and column.cover.source_type != "string":
        yield Condition("type", column.name, f"{raw} = '{MASK}'", f"{column.name} is not a {column.cover.source_type}")
    if not column.nullable:
        yield Condition("not_null", column.name, f"{raw} is null", column.reason or f"{column.name} is null")


def conditions(column: ContractColumn, rule: Rule) -> Iterator[Condition]:
    """The demands of one rule on one column. Nulls keep every rule."""
    value = quote(column.name)
    for name, holds, text in _demands(column, rule, value):
        yield Condition(name, column.name, f"not ({holds})", f"{column.name} {text}")


def row_condition(rule: RowRule) -> Condition:
    """The demand of a rule on several columns, which holds where its expression is null."""
    return Condition(rule.name, None, f"not ({rule.expression}\n)", rule.reason or f"{rule.name} doesn't hold")


def reference_condition(reference: ContractReference) -> Condition:
    """The demand that a key is found. The engine has the relation of the reference as a view.

    A key that the relation doesn't hold at all was changed by the transform: nobody looked it up, so the engine
    raises instead of saying that it isn't there.
    """
    relation = quote_qualified(relation_name(reference.asset))
    names = [quote(c) for c in reference.columns]
    key = names[0] if len(names) == 1 else f"({', '.join(names)})"
    shown = " || ', ' || ".join(f"{n}::varchar" for n in names)
    message = f"{', '.join(reference.columns)} changed in the transform, and was not looked up in {reference.asset}: "
    broken = (
        f"case when {' or '.join(f'{n} is null' for n in names)} then false "
        f"when {key} in (select {key} from {relation} where {FOUND}) then false "
        f"when {key} in (select {key} from {relation}) then true else error({literal(message)} || {shown})::boolean end"
    )
    column = reference.columns[0] if len(names) == 1 else None
    return Condition(f"references:{reference.asset}", column, broken, reference.reason)


def _demands(column: ContractColumn, rule: Rule, value: str) -> Iterator[tuple[str, str, str]]:
    """(name, condition of a good value, what a bad one is): each condition is null where the value is."""
    for field, operator in _SQL_OPERATORS.items():
        bound = getattr(rule, field)
        if bound is not None:
            yield field, f"{value} {operator} {_bound(column, bound)}", f"is not {operator} {bound}"
    if rule.isin is not None:
        options = ", ".join(_bound(column, v) for v in rule.isin)
        yield "isin", f"{value} in ({options})", f"is not one of {', '.join(map(str, rule.isin))}"
    if rule.matches is not None:
        yield "matches", f"regexp_full_match({value}, {literal(rule.matches)})", f"does not match {rule.matches}"
    if rule.length is not None:
        least, most = rule.length.ge, rule.length.le
        if least is not None:
            yield "length", f"length({value}) >= {least}", f"is shorter than {least} characters"
        if most is not None:
            yield "length", f"length({value}) <= {most}", f"is longer than {most} characters"


def _bound(column: ContractColumn, value: object) -> str:
    if column.type == "string":
        return literal(str(value))
    if DECIMAL.match(column.type):
        scale = max(0, -int(Decimal(str(value)).as_tuple().exponent))
        return f"{literal(str(value))}::decimal(38, {scale})"
    return f"{literal(str(value))}::{duckdb_type(column.type)}"
