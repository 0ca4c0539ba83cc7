"""What carries over from DuckDB's SQL to Spark's: the constructs that mean the same, or can be made to."""

import re
from collections.abc import Callable, Iterator

from sqlglot import exp

from etl_resources.sql_check import SqlProblem, line_of

INTEGER, DECIMAL, TEXT, DATE, STAMP, BOOLEAN, OTHER = "integer", "decimal", "text", "date", "timestamp", "boolean", "?"
_FAMILIES = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "BIGINT", "INT128"), INTEGER),
    **dict.fromkeys(("VARCHAR", "TEXT"), TEXT),
    **dict.fromkeys(("TIMESTAMPTZ", "TIMESTAMP"), STAMP),
    "DECIMAL": DECIMAL, "DATE": DATE, "BOOLEAN": BOOLEAN,
}  # fmt: skip
_SAME: tuple[type[exp.Expr], ...] = (
    # queries
    exp.Select, exp.From, exp.Join, exp.Where, exp.Group, exp.Having, exp.Qualify, exp.With, exp.CTE, exp.Subquery,
    exp.Table, exp.TableAlias, exp.Alias, exp.Column, exp.Identifier, exp.Star, exp.Union, exp.Intersect, exp.Except,
    exp.Paren, exp.Tuple, exp.Distinct, exp.Order, exp.Ordered, exp.Exists, exp.In,
    # values and logic
    exp.Literal, exp.Null, exp.Boolean, exp.DataType, exp.DataTypeParam, exp.Case, exp.If, exp.Coalesce, exp.Nullif,
    exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.Is, exp.NullSafeEQ,
    exp.NullSafeNEQ, exp.Like, exp.Add, exp.Sub, exp.Mul, exp.IntDiv, exp.Mod, exp.Neg, exp.Cast, exp.DPipe,
    exp.Round, exp.Floor, exp.Ceil, exp.Abs, exp.Sign, exp.Greatest, exp.Least,
    # text and time
    exp.Trim, exp.Upper, exp.Lower, exp.Length, exp.Substring, exp.Left, exp.Right, exp.Replace, exp.RegexpReplace,
    exp.RegexpLike, exp.RegexpFullMatch, exp.Interval, exp.Var, exp.TimestampTrunc, exp.DateTrunc, exp.DateDiff,
    exp.Extract, exp.Year, exp.Month, exp.Day,
    # groups and windows
    exp.Count, exp.Sum, exp.Min, exp.Max, exp.ArgMax, exp.ArgMin, exp.Filter, exp.Window, exp.WindowSpec,
    exp.RowNumber, exp.Rank, exp.DenseRank, exp.Lag, exp.Lead,
)  # fmt: skip
_INSTEAD = {
    exp.Div: "the engines divide differently: use // on whole units, or multiply by an inverse",
    exp.Avg: "the engines average differently: use sum and count, divided with // in whole units",
    exp.Limit: "which rows remain is left to the engine: use qualify row_number() over (…) <= n",
    exp.Concat: "the engines treat nulls differently: use ||",
    exp.TryCast: "text is parsed differently: give the column as text, its contract parses it",
    exp.ILike: "the engines fold case differently: use like on lower(…)",
    exp.AtTimeZone: "the engines give other types: cast to date in UTC, or convert it in the source",
}
_UNITS = {"DAY", "DAYS", "MONTH", "MONTHS", "YEAR", "YEARS", "WEEK", "WEEKS", "QUARTER", "QUARTERS"}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_STAMP = re.compile(r"(\d{4}-\d{2}-\d{2}) (\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?)(?:Z|\+00(?::?00)?)")
_PATTERN = re.compile(r"\^?(?:\.|[^\\.^$|?*+(){}\[\]]|\\[.\\^$|?*+(){}\[\]\-/]|\\d|\[\^?[\w .,:;/@#%&=~'\"!<>-]+\]"
                      r"|[?*+](?![?+*])|\{\d+(?:,\d*)?\}|\((?:\?:)?|\)|\|)*\$?")  # fmt: skip
"""Regular expressions of which RE2 and Java mean the same: no \\s, \\w or \\b, no flags, no lazy repeats."""


def family(node: exp.Expr) -> str:
    """Kind of a value, as far as it decides how the engines treat it."""
    return _FAMILIES.get(node.type.this.name if isinstance(node.type, exp.DataType) else "", OTHER)


def refusals(query: exp.Expr) -> Iterator[SqlProblem]:
    """What doesn't carry over, each with its line."""
    for node in query.walk():
        problem = _refused(node)
        if problem is not None:
            yield SqlProblem(f"{_named(node)} doesn't carry over to Spark: {problem}", line_of(node))


def _named(node: exp.Expr) -> str:
    text = node.sql(dialect="duckdb", comments=False)
    return repr(text if len(text) <= 60 else f"{text[:57]}…")


def _refused(node: exp.Expr) -> str | None:
    for kind, instead in _INSTEAD.items():
        if isinstance(node, kind):
            return instead
    if type(node) not in _SAME:  # a subclass may mean something else, as try_cast does
        return "it isn't among the constructs whose results are known to be equal"
    check = _CHECKS.get(type(node))
    return check(node) if check is not None else None


def _literal(node: exp.Literal) -> str | None:
    if not node.is_string and "e" in node.name.lower():
        return "it is a floating-point number"
    return None


def _cast(node: exp.Cast) -> str | None:
    source, wanted = family(node.this), _FAMILIES.get(node.to.this.name, OTHER)
    text = node.this.name if isinstance(node.this, exp.Literal) and node.this.is_string else None
    if isinstance(node.this, exp.Null) or (source == wanted != OTHER):
        return None
    if text is not None:
        fits = {
            DATE: _DAY.fullmatch(text), STAMP: _STAMP.fullmatch(text), TEXT: True,
            DECIMAL: re.fullmatch(r"-?\d+(\.\d+)?", text), INTEGER: re.fullmatch(r"-?\d+", text),
        }  # fmt: skip
        return None if fits.get(wanted) else "such a text is read differently"
    allowed = {
        INTEGER: (INTEGER, DECIMAL), DECIMAL: (INTEGER, DECIMAL), DATE: (STAMP,), STAMP: (DATE,),
        TEXT: (INTEGER, DATE, BOOLEAN),
    }  # fmt: skip
    if source in allowed.get(wanted, ()):
        return None
    if source == OTHER:
        return "the type of the value isn't known; cast what it is made of"
    return f"a cast from {source} to {node.to.sql(dialect='duckdb')} gives other values"


def _whole(node: exp.Binary) -> str | None:
    if {family(node.this), family(node.expression)} != {INTEGER}:
        return "both sides must be integers or hugeint: cast them"
    return None


def _arithmetic(node: exp.Binary) -> str | None:
    left, right = family(node.this), family(node.expression)
    if isinstance(node.expression, exp.Interval) and left in (DATE, STAMP):
        return None
    if {left, right} <= {INTEGER, DECIMAL}:
        return None
    if left == DATE and right == INTEGER:
        return None
    if {left, right} == {DATE}:
        return "the difference of dates has another type: use date_diff('day', …)"
    return f"it computes with {left} and {right}"


def _comparison(node: exp.Binary) -> str | None:
    left, right = family(node.this), family(node.expression)
    if (left == TEXT) != (right == TEXT) and not {type(node.this), type(node.expression)} & {exp.Literal, exp.Null}:
        if OTHER in (left, right):
            return None
        return f"it compares {left} with {right}: cast one of them"
    return None


def _numeric(node: exp.Func) -> str | None:
    if family(node.this) not in (INTEGER, DECIMAL):
        return "it must be of an integer or a decimal"
    digits = node.args.get("decimals")
    if digits is not None and not (isinstance(digits, exp.Literal) and digits.is_int):
        return "its number of digits must be a literal of at least 0"
    return None


def _sum(node: exp.Sum) -> str | None:
    value = node.this.expressions[0] if isinstance(node.this, exp.Distinct) else node.this
    return None if family(value) in (INTEGER, DECIMAL) else "it must be of an integer or a decimal"


def _count(node: exp.Count) -> str | None:
    if node.expressions or (isinstance(node.this, exp.Distinct) and isinstance(node.this.expressions[0], exp.Tuple)):
        return "it counts several columns together"
    return None


def _trim(node: exp.Trim) -> str | None:
    return "it names the characters" if node.expression is not None else None


def _parts(node: exp.Func) -> str | None:
    numbers = [node.args.get("start"), node.args.get("length"), node.expression]
    known = [n for n in numbers if n is not None]
    if all(isinstance(n, exp.Literal) and n.is_int for n in known) and not (
        isinstance(node, exp.Substring) and node.args["start"].name == "0"
    ):
        return None
    return "its numbers must be literals of at least 1"


def _pattern(node: exp.Expr) -> str | None:
    pattern = node.args.get("expression")
    if not (isinstance(pattern, exp.Literal) and _PATTERN.fullmatch(pattern.name)):
        return "the engines read such a regular expression differently"
    flags = node.args.get("modifiers") or node.args.get("flag") or node.args.get("options")
    if isinstance(node, exp.RegexpReplace):
        if re.fullmatch(pattern.name, ""):
            return "it matches the empty text"
        everywhere = isinstance(flags, exp.Literal) and flags.name == "g"
        if not everywhere and (flags is not None or not pattern.name.startswith("^") or "|" in pattern.name):
            return "only the first match is replaced: begin it with ^, or give the option 'g'"
        by = node.args.get("replacement")
        if not isinstance(by, exp.Literal) or "\\" in by.name or "$" in by.name:
            return "its replacement must be a literal without references"
        return None
    return "it has options" if flags is not None else None


def _like(node: exp.Like) -> str | None:
    pattern = node.expression
    if isinstance(node.parent, exp.Escape) or not isinstance(pattern, exp.Literal) or "\\" in pattern.name:
        return "its pattern must be a literal without an escape"
    return None


def _interval(node: exp.Interval) -> str | None:
    if not isinstance(node.this, exp.Literal) or str(node.args.get("unit")).upper() not in _UNITS:
        return "it must be a literal number of days, weeks, months, quarters or years"
    return None if isinstance(node.parent, exp.Add | exp.Sub) else "it must be added to a date"


def _unit(*units: str) -> Callable[[exp.Expr], str | None]:
    def check(node: exp.Expr) -> str | None:
        unit = node.args.get("unit") if not isinstance(node, exp.Extract) else node.this
        return (
            None if unit is not None and unit.name.upper() in units else f"the unit must be one of {', '.join(units)}"
        )

    return check


def _days(node: exp.DateDiff) -> str | None:
    if {family(node.this), family(node.expression)} != {DATE}:
        return "it must be of two dates"
    return _unit("DAY")(node)


def _window(node: exp.Window) -> str | None:
    if isinstance(node.this, exp.Filter) or node.find(exp.Distinct):
        return "Spark has no filter and no distinct in a window"
    if node.args.get("alias") is not None or node.args.get("over") not in (None, "OVER"):
        return "write the window out"
    spec = node.args.get("spec")
    return (
        "only rows and range"
        if spec is not None and str(spec.args.get("kind") or "ROWS").upper() not in ("ROWS", "RANGE")
        else None
    )


def _join(node: exp.Join) -> str | None:
    if node.args.get("method") or node.args.get("using"):
        return "write the condition out"
    return None


def _distinct(node: exp.Distinct) -> str | None:
    return "distinct on leaves the choice to the engine" if node.args.get("on") is not None else None


def _with(node: exp.With) -> str | None:
    return "it is recursive" if node.args.get("recursive") else None


def _newest(node: exp.ArgMax | exp.ArgMin) -> str | None:
    return "it gives several values" if node.args.get("count") is not None else None


def _tuple(node: exp.Tuple) -> str | None:
    inside = isinstance(node.parent, exp.ArgMax | exp.ArgMin)
    return None if inside else "nulls inside are compared differently: parentheses may stand in arg_max and arg_min"


_CHECKS: dict[type[exp.Expr], Callable[..., str | None]] = {
    exp.Literal: _literal, exp.Cast: _cast, exp.IntDiv: _whole, exp.Mod: _whole,
    **dict.fromkeys((exp.Add, exp.Sub, exp.Mul), _arithmetic),
    **dict.fromkeys((exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ), _comparison),
    **dict.fromkeys((exp.Round, exp.Floor, exp.Ceil, exp.Abs, exp.Sign), _numeric), exp.Sum: _sum, exp.Count: _count,
    exp.Trim: _trim, **dict.fromkeys((exp.Substring, exp.Left, exp.Right), _parts),
    **dict.fromkeys((exp.RegexpReplace, exp.RegexpLike, exp.RegexpFullMatch), _pattern), exp.Like: _like,
    exp.Interval: _interval, exp.DateDiff: _days, exp.Extract: _unit("YEAR", "QUARTER", "MONTH", "DAY"),
    **dict.fromkeys((exp.TimestampTrunc, exp.DateTrunc), _unit("DAY", "MONTH", "QUARTER", "YEAR")),
    exp.Window: _window, exp.Join: _join, exp.Distinct: _distinct, exp.With: _with, exp.Tuple: _tuple,
    exp.ArgMax: _newest, exp.ArgMin: _newest,
}  # fmt: skip
