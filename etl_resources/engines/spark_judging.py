"""A contract as Spark's SQL: what quality.rules says for DuckDB, said for the executors.

Reasons, their order and their texts are those of the embedded engine; conditions are carried over by spark_sql.
"""

from collections.abc import Iterator, Mapping, Sequence

from etl_resources.contract import Contract, ContractColumn, ContractReference
from etl_resources.engines.spark_sql import duckdb_type_of, spark_condition, spark_literal, spark_type, spark_view
from etl_resources.errors import PermanentError
from etl_resources.identifiers import quote
from etl_resources.lookups import FOUND, relation_name
from etl_resources.manifest_columns import DECIMAL
from etl_resources.quality.conditions import Condition, conditions, row_condition, type_conditions
from etl_resources.quality.content_hash import row_text
from etl_resources.tables.schema import duckdb_type

REASON = "struct<rule:string,`column`:string,reason:string>"
DIGEST, RANK, COPIES = "_digest", "_key_rank", "_copies"
"""Hidden columns of judged rows: md5 of the text that is hashed, place among the rows of one key, how many these are.
"""
_SPACE = "[\\t\\n\\f\\r ]"
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")


def judged(asset: str, contract: Contract, produced: Mapping[str, str], newest: str | None) -> str:
    """Query over view `produced`: every row typed, with _reasons and _payload, and the hidden columns.

    Of a bad row these are its reasons and a list of the one row as it came, of a good row null: both are lists, which
    cost nothing where there are none.

    produced: column → Spark's type. newest: column whose greatest value wins among good rows of one key.
    Raises PermanentError as rules.typed_columns.
    """
    missing = [c.name for c in contract.columns if c.name not in produced]
    if missing:
        raise PermanentError(f"{asset}: the transform gives no column {', '.join(missing)}.")
    typed = ", ".join(f"{_typed(asset, c, produced[c.name])} as {quote(c.name)}" for c in contract.columns)
    names = ", ".join(map(quote, contract.names))
    keys = ", ".join(map(quote, contract.key))
    digest, rank, copies = f"md5({row_text(contract, 'spark')})", "1", "1"
    if newest is not None:
        same = f"partition by {keys}, _reasons is not null"
        order = f"{quote(newest)} desc nulls last, {digest}"
        rank, copies = f"row_number() over ({same} order by {order})", f"count(*) over ({same})"
    return (
        f"with typed as (select {typed}, struct(_raw.*) as _payload from produced as _raw), "
        f"reasoned as (select typed.*, {_reasons(asset, contract, produced)} as _reasons "
        f"from typed {' '.join(_joins(contract))}) "
        f"select {names}, _reasons, case when _reasons is not null then array(_payload) end as _payload, "
        f"{rank} as {RANK}, {copies} as {COPIES}, {digest} as {DIGEST} from reasoned"
    )


def _typed(asset: str, column: ContractColumn, spark: str) -> str:
    """The column of `_raw` with its type; a cast that doesn't fit ends the run, a text that doesn't parse is null."""
    wanted, name, produced = duckdb_type(column.type), f"_raw.{quote(column.name)}", duckdb_type_of(spark)
    if produced == wanted:
        return name
    if produced == "VARCHAR":
        return _parsed(asset, column, name)
    if _holds(produced, wanted):
        return f"cast({name} as {spark_type(column.type)})"
    raise PermanentError(
        f"{asset}: column {column.name} is {produced} and the contract says {column.type}. "
        f"Cast it in the SQL, with the rounding that is meant."
    )


def _holds(produced: str, wanted: str) -> bool:
    """Whether no value loses a digit; a decimal that is too large raises when it is cast."""
    if produced in _INTEGERS and wanted in _INTEGERS:
        return _INTEGERS.index(produced) <= _INTEGERS.index(wanted)
    old, new = DECIMAL.match(produced.lower()), DECIMAL.match(wanted.lower())
    return bool(old and new and int(new[2]) >= int(old[2]))


def _parsed(asset: str, column: ContractColumn, name: str) -> str:
    decimal = DECIMAL.match(column.type)
    whole = f"{_SPACE}*[+-]?[0-9]+{_SPACE}*"
    patterns = {"bigint": whole, "int": whole, "date": f"{_SPACE}*[0-9]{{4}}-[0-9]{{1,2}}-[0-9]{{1,2}}{_SPACE}*"}
    pattern = patterns.get(column.type)
    if decimal:
        pattern = f"{_SPACE}*[+-]?[0-9]*(\\.[0-9]{{0,{decimal[2]}}}0*)?{_SPACE}*"
    if pattern is None:
        raise PermanentError(
            f"{asset}: column {column.name} is text, which the engines read differently as {column.type}. "
            "Give the dataset a size without Spark, or the column as the type that it has."
        )
    bare = f"regexp_replace({name}, {spark_literal(_SPACE)}, '')"
    fits = spark_literal(f"^(?:{pattern})\\z")
    return f"case when {name} rlike {fits} then try_cast({bare} as {spark_type(column.type)}) end"


def _reasons(asset: str, contract: Contract, produced: Mapping[str, str]) -> str:
    """Reasons of a bad row; null of a good one, for which no list is made."""
    broken = list(_conditions(asset, contract, produced))
    if not broken:
        return f"cast(null as array<{REASON}>)"
    none = f"cast(array() as array<{REASON}>)"
    found = ", ".join(
        f"case when {c.broken} then array(named_struct('rule', {spark_literal(c.rule)}, 'column', "
        f"{'cast(null as string)' if c.column is None else spark_literal(c.column)}, "
        f"'reason', {spark_literal(c.text)})) else {none} end"
        for c in broken
    )  # concat, unlike filter, is compiled together with everything else
    return f"case when {' or '.join(f'({c.broken})' for c in broken)} then concat({found}) end"


def _conditions(asset: str, contract: Contract, produced: Mapping[str, str]) -> Iterator[Condition]:
    """In the order of quality.rules."""
    types = {c.name: c.type for c in contract.columns}

    def carried(found: Condition) -> Condition:
        what = f"{asset}: rule {found.rule}{f' of column {found.column}' if found.column else ''}"
        return Condition(found.rule, found.column, spark_condition(found.broken, types, what), found.text)

    for column in contract.columns:
        yield from type_conditions(column, from_text=produced[column.name] == "string")
        for rule in column.rules:
            if rule.severity == "reject":
                yield from map(carried, conditions(column, rule))
    yield from (carried(row_condition(rule)) for rule in contract.rules if rule.severity == "reject")
    yield from (_unknown(n, r) for n, r in enumerate(_rejecting(contract)))


def _rejecting(contract: Contract) -> Sequence[ContractReference]:
    return [r for r in contract.references if r.severity == "reject"]


def _joins(contract: Contract) -> Iterator[str]:
    """The relation of each reference beside the row: it has one row per key."""
    for n, reference in enumerate(_rejecting(contract)):
        relation = spark_view(relation_name(reference.asset))
        same = " and ".join(f"typed.{quote(c)} = _r{n}._k{i}" for i, c in enumerate(reference.columns))
        columns = ", ".join(f"{quote(c)} as _k{i}" for i, c in enumerate(reference.columns))
        yield f"left join (select {columns}, {FOUND} as _found from {quote(relation)}) as _r{n} on {same}"


def _unknown(n: int, reference: ContractReference) -> Condition:
    """As conditions.reference_condition: a key that nobody looked up ends the run."""
    names = [f"typed.{quote(c)}" for c in reference.columns]
    shown = " || ', ' || ".join(f"cast({name} as string)" for name in names)
    message = f"{', '.join(reference.columns)} changed in the transform, and was not looked up in {reference.asset}: "
    broken = (
        f"case when {' or '.join(f'{name} is null' for name in names)} then false "
        f"when _r{n}._found then false when not _r{n}._found then true "
        f"else cast(raise_error({spark_literal(message)} || {shown}) as boolean) end"
    )
    column = reference.columns[0] if len(names) == 1 else None
    return Condition(f"references:{reference.asset}", column, broken, reference.reason)
