"""A batch function on the rows of a transform's SQL, alike on both engines, and its result held to the contract.

Whole numbers come as Int64, the rest as the SQL has it: one frame, whichever engine computed it. The function is asked
once without rows, so that its columns have types before the first batch, and each batch must keep them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_resources.contract import Contract
from etl_resources.engines.embedded import connect_offline, stream
from etl_resources.engines.function_modules import FunctionError, load, told
from etl_resources.errors import PermanentError
from etl_resources.identifiers import quote, quote_qualified
from etl_resources.manifest_columns import DECIMAL
from etl_resources.python_source import BatchFunction
from etl_resources.tables.schema import arrow_type, duckdb_type

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    import pyarrow as pa

BATCH_ROWS = 30_000
"""Most rows of a batch: what a function holds in memory."""
_GIVEN = "_given"
_TYPES = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"), "bigint"),
    "HUGEINT": "decimal(38,0)",
    "VARCHAR": "string",
    "DATE": "date",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "BOOLEAN": "boolean",
}


@dataclass(frozen=True)
class BatchStep:
    """A function with the columns before and after it, which engines hand to their processes."""

    asset: str
    function: BatchFunction
    given: Mapping[str, str]
    """Column → manifest type."""
    contract: Mapping[str, str]
    """Column → manifest type that it has in the end."""
    texts: frozenset[str] = frozenset()
    """Columns that it gives as text, which the judging parses."""

    @classmethod
    def of(cls, asset: str, function: BatchFunction, described: Mapping[str, str], contract: Contract) -> "BatchStep":
        """described: column of the SQL → DuckDB's type. Raises PermanentError for what no frame has, FunctionError."""
        given = {name: _given_type(asset, name, kind) for name, kind in described.items()}
        wanted = {c.name: c.type for c in contract.columns}
        made = cls(asset, function, given, wanted)._called(load(function), _schema(given).empty_table(), "without rows")
        texts = {n for n, kind in wanted.items() if n in made.columns and kind != "string" and _is_text(made[n])}
        step = cls(asset, function, given, wanted, frozenset(texts))
        step._conformed(made, "without rows")
        return step

    @property
    def made(self) -> dict[str, str]:
        """Column → manifest type that its batches have."""
        return {name: "string" if name in self.texts else kind for name, kind in self.contract.items()}

    def apply(self, batches: "Iterable[pa.RecordBatch]", of: str = "") -> "Iterator[pa.RecordBatch]":
        """Batches with the columns `made`, in their order. of: whose rows are numbered. Raises FunctionError."""
        import pyarrow as pa

        function, schema, first = load(self.function), _schema(self.given), 1
        for batch in batches:
            if not batch.num_rows:
                continue
            where = f"in rows {first} to {first + batch.num_rows - 1}{of}"
            first += batch.num_rows
            table = pa.Table.from_batches([batch]).select(list(self.given)).cast(schema)
            yield from self._conformed(self._called(function, table, where), where).to_batches()

    def _called(self, function: Callable[[Any], Any], table: "pa.Table", where: str) -> "pl.DataFrame":
        import polars as pl

        try:
            made = function(pl.from_arrow(table))
        except (Exception, SystemExit, pl.exceptions.PanicException) as e:
            raise self._error(where, f"failed: {told(e, self.function)}") from e
        if not isinstance(made, pl.DataFrame):
            hint = ": add .collect()" if isinstance(made, pl.LazyFrame) else ""
            raise self._error(where, f"gave a {type(made).__name__}, must be a polars DataFrame{hint}")
        return made

    def _conformed(self, frame: "pl.DataFrame", where: str) -> "pa.Table":
        import polars as pl
        import pyarrow as pa

        missing = [n for n in self.contract if n not in frame.columns]
        unknown = [n for n in frame.columns if n not in self.contract]
        if missing:
            raise self._error(where, f"gave no column {', '.join(missing)}")
        if unknown:
            raise self._error(where, f"gave column {', '.join(unknown)}, which its contract doesn't have: drop it")
        columns = []
        for name, field in zip(self.made, _schema(self.made), strict=True):
            series = frame[name]
            if problem := self._problem(name, series):
                raise self._error(where, problem)
            try:
                if field.type == pa.string():
                    series = series.cast(pl.String)
                columns.append(series.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(field.type))
            except pa.ArrowInvalid as e:
                message = f"gave a value in column {name} that no {self.contract[name]} holds: {e}"
                raise self._error(where, message) from e
        return pa.table(columns, schema=_schema(self.made))

    def _problem(self, name: str, series: "pl.Series") -> str | None:
        """Why a column's type can't become that of the contract without a loss."""
        import polars as pl

        dtype, wanted = series.dtype, self.contract[name]
        decimal = DECIMAL.match(wanted)
        if dtype == pl.Null:
            return None
        if wanted == "string" or name in self.texts:
            fits = _is_text(series)
        elif decimal:
            fits = isinstance(dtype, pl.Decimal) and dtype.scale <= int(decimal[2])
        elif wanted == "timestamptz":
            fits = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None and dtype.time_unit != "ns"
        elif wanted in ("bigint", "int"):
            fits = dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128)
        else:
            fits = dtype == {"date": pl.Date, "boolean": pl.Boolean}[wanted]
        if fits:
            return None
        message = f"gave column {name} as {dtype}"
        if name in self.texts or (_is_text(series) and wanted != "string"):
            return f"{message}, and as another type without rows: give it one type (e.g. return_dtype)"
        return f"{message}, and the contract says {wanted}: cast it, with the rounding that is meant"

    def _error(self, where: str, problem: str) -> FunctionError:
        return FunctionError(f"{self.asset}: {self.function}, {where}, {problem}.")


def produce(engine: "duckdb.DuckDBPyConnection", asset: str, sql: str, function: BatchFunction, contract: Contract,
            batch_rows: int) -> None:  # fmt: skip
    """Table `produced` of the embedded engine: what the function makes of the rows of the SQL, batch by batch."""
    import pyarrow as pa

    engine.execute(f"create or replace view {_GIVEN} as {sql}")
    reader = engine.cursor()
    try:
        step = BatchStep.of(asset, function, _described(engine), contract)
        columns = ", ".join(f"{quote(n)} {duckdb_type(kind)}" for n, kind in step.made.items())
        engine.execute(f"create or replace temp table produced ({columns})")
        rows = stream(reader, f"select {given_items(step.given)} from {_GIVEN}", batch_rows)
        for batch in step.apply(_cut(rows, batch_rows)):
            engine.register("_made", pa.Table.from_batches([batch]))
            engine.execute("insert into produced from _made")
            engine.unregister("_made")
    finally:
        reader.close()
        engine.execute(f"drop view if exists {_GIVEN}")


def offline_step(
    asset: str, sql: str, function: BatchFunction, contract: Contract, relations: Mapping[str, Mapping[str, str]]
) -> BatchStep:
    """The step where another engine has the rows: types of columns are DuckDB's. relations: that the SQL reads."""
    with connect_offline() as engine:
        for name, columns in relations.items():
            typed = ", ".join(f"{quote(c)} {duckdb_type(kind)}" for c, kind in columns.items())
            engine.execute(f"create schema if not exists {quote(name.partition('.')[0])}")
            engine.execute(f"create table {quote_qualified(name)} ({typed})")
        engine.execute(f"create view {_GIVEN} as {sql}")
        return BatchStep.of(asset, function, _described(engine), contract)


def given_items(given: Mapping[str, str]) -> str:
    """Select items that give the columns of a frame their types, in DuckDB."""
    return ", ".join(f"cast({quote(n)} as {duckdb_type(kind)}) as {quote(n)}" for n, kind in given.items())


def _described(engine: "duckdb.DuckDBPyConnection") -> dict[str, str]:
    return {name: kind for name, kind, *_ in engine.execute(f"describe {_GIVEN}").fetchall()}


def _cut(batches: "Iterable[pa.RecordBatch]", rows: int) -> "Iterator[pa.RecordBatch]":
    """The engine's batches have thousands of rows, even where fewer are wanted."""
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def _given_type(asset: str, name: str, described: str) -> str:
    if DECIMAL.match(described.lower()):
        return described.lower()
    if described not in _TYPES:
        raise PermanentError(
            f"{asset}: column {name} of its SQL is a {described}, which a Python function isn't given. "
            "Cast it to a whole number, decimal, text, date, timestamptz or boolean."
        )
    return _TYPES[described]


def _is_text(series: "pl.Series") -> bool:
    import polars as pl

    return isinstance(series.dtype, pl.String | pl.Categorical | pl.Enum)


def _schema(columns: Mapping[str, str]) -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([pa.field(name, arrow_type(kind)) for name, kind in columns.items()])
