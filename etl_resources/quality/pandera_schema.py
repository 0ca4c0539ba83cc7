"""A contract as a pandera schema: a second judge of written rows, which shares no SQL with the first.

Rules are made into DuckDB's SQL by `rules`, and into polars expressions here. A mistake in either shows as a row that
one of them lets through.
"""

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from etl_resources.contract import Contract, ContractColumn
from etl_resources.manifest_columns import DECIMAL, Rule

if TYPE_CHECKING:
    import pandera.polars as pa
    import polars as pl

_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r "}
"""RE2's classes are of ASCII; polars would match every script's digits."""


@lru_cache(maxsize=256)
def pandera_schema(contract: Contract) -> "pa.DataFrameSchema":
    """A polars schema with the contract's columns, in any order, and one check that each row keeps all of `promises`.

    One check instead of one per rule: pandera takes 4 ms for each, whatever the number of rows.
    """
    import pandera.polars as pa
    import polars as pl

    kept = [expression for _, expression in promises(contract)]
    checks = [pa.Check(lambda data: data.lazyframe.select(pl.all_horizontal(kept)), name="promises")] if kept else []
    columns = {c.name: pa.Column(_dtype(c.type), nullable=True) for c in contract.columns}
    return pa.DataFrameSchema(columns, checks, strict=True)


def promises(contract: Contract) -> Iterator[tuple[str, "pl.Expr"]]:
    """(name, expression that is true for a row that keeps it) of what every written row must keep.

    Rules on several columns are SQL, and not among them.
    """
    import polars as pl

    for column in contract.columns:
        if not column.nullable:
            yield f"{column.name} not_null", pl.col(column.name).is_not_null()
        for rule in column.rules:
            if rule.severity == "reject":
                for name, keeps in _demands(column, rule):
                    yield f"{column.name} {name}", keeps.fill_null(value=True)


def _demands(column: ContractColumn, rule: Rule) -> Iterator[tuple[str, "pl.Expr"]]:
    import polars as pl

    value = pl.col(column.name)
    bounds = {"ge": value.ge, "gt": value.gt, "le": value.le, "lt": value.lt}
    for name, compare in bounds.items():
        if (bound := getattr(rule, name)) is not None:
            yield name, compare(pl.lit(_value(column.type, bound)))
    if rule.isin is not None:
        yield "isin", pl.any_horizontal([value.eq(pl.lit(_value(column.type, v))) for v in rule.isin])
    if rule.matches is not None:
        yield "matches", value.str.contains(f"^(?:{_ascii(rule.matches)})$")
    if rule.length is not None:
        if rule.length.ge is not None:
            yield "length", value.str.len_chars() >= rule.length.ge
        if rule.length.le is not None:
            yield "length", value.str.len_chars() <= rule.length.le


def _dtype(type_: str) -> Any:
    import polars as pl

    found = DECIMAL.match(type_)
    if found:
        return pl.Decimal(int(found[1]), int(found[2]))
    return {
        "bigint": pl.Int64(),
        "int": pl.Int32(),
        "string": pl.String(),
        "date": pl.Date(),
        "timestamptz": pl.Datetime("us", "UTC"),
        "boolean": pl.Boolean(),
    }[type_]


def _value(type_: str, bound: int | str) -> Any:
    """A bound as written in the manifest, as Python's value of the column's type."""
    if type_ in ("bigint", "int") or DECIMAL.match(type_):
        return Decimal(str(bound))
    return {"date": date.fromisoformat, "timestamptz": datetime.fromisoformat}.get(type_, str)(str(bound))


def _ascii(pattern: str) -> str:
    """An RE2 pattern for polars' regular expressions, in which a class may stand within brackets."""
    found, i = "", 0
    while i < len(pattern):
        letter = pattern[i + 1 : i + 2]
        if pattern[i] == "\\" and letter:
            known = _CLASSES.get(letter.lower())
            found += f"[{'^' if letter.isupper() else ''}{known}]" if known else pattern[i : i + 2]
            i += 2
        else:
            found += pattern[i]
            i += 1
    return found
