"""Constructs that mean something else in Spark, said otherwise there, so that the rows are the same."""

import re
from collections.abc import Callable
from functools import cache
from typing import Literal

from sqlglot import exp

from etl_resources.engines.spark_constructs import DECIMAL, INTEGER, family

_KEPT = "_kept"
_PARTS = re.compile(r"\\.|\[[^\]]*\]|\.")
"""Of a regular expression: what a dot may be hidden in, and a dot."""
_HUGE = "DECIMAL(38, 0)"
"""What holds a hugeint; beyond 38 digits Spark raises, where DuckDB has one digit more."""


def rewritten(query: exp.Expr) -> exp.Expr:
    """The typed statement, changed from its innermost parts outward."""
    for node in reversed(list(query.walk())):
        change = _CHANGES.get(type(node))
        if change is None:
            continue
        changed = change(node.copy())
        changed.type = node.type
        if node is query:
            query = changed
        else:
            node.replace(changed)
    return query


def _select(node: exp.Select) -> exp.Expr:
    """Spark has no qualify, and sqlglot's replacement takes a column for a result of the same name."""
    if node.args.get("qualify") is None:
        return node
    names = [s.alias_or_name for s in node.selects]
    kept = exp.alias_(node.args["qualify"].this, _KEPT, quoted=True)
    node.set("qualify", None)
    inside = node.select(kept, copy=False).subquery("_all", copy=False)
    columns = [exp.column(n, quoted=True) for n in names]
    return exp.select(*columns).from_(inside, copy=False).where(exp.column(_KEPT, quoted=True), copy=False)


def _is_huge(node: exp.Expr) -> bool:
    return isinstance(node.type, exp.DataType) and node.type.this is exp.DataType.Type.INT128


def _huge(node: exp.Expr) -> exp.Expr:
    return exp.cast(node.copy(), _HUGE)


def _data_type(node: exp.DataType) -> exp.Expr:
    return exp.DataType.build(_HUGE) if node.this is exp.DataType.Type.INT128 else node


def _cast(node: exp.Cast) -> exp.Expr:
    """Spark cuts off a decimal's fraction where DuckDB rounds."""
    if family(node.this) == DECIMAL and family(node) == INTEGER and not _is_huge(node):
        node.set("this", exp.Round(this=node.this, decimals=exp.Literal.number(0)))
    return node


def _divided(node: exp.IntDiv) -> exp.Expr:
    """By zero it is null. `div` of decimals wraps around beyond 64 bits: a hugeint is divided after its rest is off."""
    left, right = node.this, node.expression
    if not (_is_huge(left) or _is_huge(right)):
        divisor = exp.Nullif(this=exp.cast(right, "BIGINT"), expression=exp.Literal.number(0))
        return exp.paren(exp.IntDiv(this=exp.cast(left, "BIGINT"), expression=divisor), copy=False)
    by = exp.Nullif(this=_huge(right), expression=exp.Literal.number(0))
    rest = exp.Mod(this=_huge(left), expression=by)
    whole = exp.paren(exp.Sub(this=_huge(left), expression=rest), copy=False)
    return exp.cast(exp.Div(this=whole, expression=by.copy(), typed=True, safe=False), _HUGE)


def _rest(node: exp.Mod) -> exp.Expr:
    node.set("expression", exp.Nullif(this=exp.paren(node.expression), expression=exp.Literal.number(0)))
    return node


def _sign(node: exp.Sign) -> exp.Expr:
    """Spark's is a floating-point number."""
    zero, value = exp.Literal.number(0), node.this
    found = exp.Case()
    for kind, sign in ((exp.GT, "1"), (exp.LT, "-1"), (exp.EQ, "0")):
        number = exp.Literal.number(sign.lstrip("-"))
        then = exp.Neg(this=number) if sign.startswith("-") else number
        found = found.when(kind(this=exp.paren(value.copy(), copy=False), expression=zero.copy()), then)
    return found


def _extreme(node: exp.ArgMax | exp.ArgMin) -> exp.Expr:
    """DuckDB passes over rows without a value, and takes a null inside of a tuple for the greatest."""
    order = node.expression
    if isinstance(order, exp.Tuple):
        parts = [p for e in order.expressions for p in (exp.Is(this=e.copy(), expression=exp.Null()), e.copy())]
        order = exp.Anonymous(this="struct", expressions=parts)
    given = exp.Is(this=node.this.copy(), expression=exp.Null())
    node.set("expression", exp.Case().when(given, exp.Null()).else_(order))
    return node


def _case(node: exp.Upper | exp.Lower) -> exp.Expr:
    """DuckDB changes letter by letter; Spark also makes two of one (ß) and looks at what stands beside (Σ)."""
    to: Literal["upper", "lower"] = "upper" if isinstance(node, exp.Upper) else "lower"
    letters, instead = _letters(to)
    strange = exp.RegexpLike(this=node.this.copy(), expression=exp.Literal.string(r"[^\x00-\x7f]"))
    by_letter = exp.Anonymous(
        this="translate",
        expressions=[node.this.copy(), exp.Literal.string(letters), exp.Literal.string(instead)],
    )
    return exp.Case().when(strange, by_letter).else_(node)


@cache
def _letters(to: Literal["upper", "lower"]) -> tuple[str, str]:
    """Every letter that DuckDB changes, and what it makes of it, in the same order."""
    from etl_resources.engines.embedded import connect_offline

    with connect_offline() as engine:
        found = engine.execute(
            f"select chr(i::int), {to}(chr(i::int)) from range(1, 1114112) as t(i) "
            f"where i not between 55296 and 57343 and {to}(chr(i::int)) <> chr(i::int) order by i"
        ).fetchall()
    return "".join(a for a, _ in found), "".join(b for _, b in found)


def _pattern(pattern: str, *, whole: bool = False) -> exp.Literal:
    """RE2's $ is the very end of the text, Java's also stands before a last line break; its . is no \\r and others."""
    pattern = _PARTS.sub(lambda part: "[^\\n]" if part[0] == "." else part[0], pattern)
    if pattern.endswith("$") and not pattern.endswith("\\$"):
        pattern = f"{pattern[:-1]}\\z"
    return exp.Literal.string(f"^(?:{pattern})\\z" if whole else pattern)


def _regexp(node: exp.RegexpLike | exp.RegexpFullMatch | exp.RegexpReplace) -> exp.Expr:
    if isinstance(node, exp.RegexpReplace):
        node.set("expression", _pattern(node.expression.name))
        node.set("modifiers", None)
        return node
    whole = isinstance(node, exp.RegexpFullMatch)
    return exp.RegexpLike(this=node.this, expression=_pattern(node.expression.name, whole=whole))


_CHANGES: dict[type[exp.Expr], Callable[..., exp.Expr]] = {
    exp.Select: _select,
    exp.DataType: _data_type,
    exp.Cast: _cast,
    exp.IntDiv: _divided,
    exp.Mod: _rest,
    exp.Sign: _sign,
    exp.ArgMax: _extreme,
    exp.ArgMin: _extreme,
    exp.Upper: _case,
    exp.Lower: _case,
    exp.RegexpLike: _regexp,
    exp.RegexpFullMatch: _regexp,
    exp.RegexpReplace: _regexp,
}
