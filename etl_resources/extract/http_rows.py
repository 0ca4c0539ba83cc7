"""Rows in the JSON pages of an API: every column as text, digits as sent; what is no row is kept as its text."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from etl_resources.extract.batch_stream import ORIGIN, UNREADABLE
from etl_resources.extract.delivery import DECLARED, Reading
from etl_resources.json_path import Found, JsonPath, is_whole, json_text, text_of
from etl_resources.manifest_http import DateRangePages, HttpApiSource
from etl_resources.sensitive import captured_columns

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 20_000
Row = tuple[str | None, ...]
"""Values in the order of the source's columns, then the text of what is no row."""


class _NoRowError(Exception):
    """What was found isn't a row; the text says why."""


@dataclass(frozen=True)
class PageRows:
    """How a source's rows are read from a page."""

    source: HttpApiSource
    reading: Reading = DECLARED

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns that are read."""
        return self.reading.columns or tuple(captured_columns(self.source))

    def found(self, document: Any) -> set[str]:
        """Columns that rows of a page have: the keys of mappings, and what the source names otherwise."""
        rows = [row.value for row in self._found(document) if row.problem is None]
        if not rows:
            return set()
        keys = {key for row in rows if isinstance(row, dict) for key in row}
        named = {c: path.steps[0].key for c, path in self._fields.items() if not path.from_root}
        elsewhere = {c for c in self.source.columns if (c in self._fields and c not in named) or c == self.source.value}
        inside = {key for key in named.values() if key not in self.source.columns or key in self._fields}
        return {*self.path.captures, *elsewhere, *(c for c, key in named.items() if key in keys), *(keys - inside)}

    @cached_property
    def path(self) -> JsonPath:
        """To the rows."""
        return JsonPath(self.source.rows)

    def count(self, document: Any) -> int:
        """Rows of a page, readable or not. Raises PathError when the page is of another form."""
        return sum(1 for _ in self._found(document))

    def _found(self, document: Any) -> Iterator[Found]:
        return self.path.walk(document, null_is_empty=self.source.null_rows == "empty")

    @cached_property
    def schema(self) -> "pa.Schema":
        """Columns of the source, ORIGIN, UNREADABLE; all text."""
        import pyarrow as pa

        return pa.schema([(name, pa.string()) for name in (*self.columns, ORIGIN, UNREADABLE)])

    def batches(self, pages: Iterable[tuple[str, Any]]) -> "Iterator[pa.RecordBatch]":
        """Rows of all pages, (address, document) each, columns as in `schema`. Raises PathError as `count`.

        Date ranges may overlap (the public rates service begins each with the last day before it): a row that the page
        before delivered equally is the same row.
        """
        overlapping = isinstance(self.source.pages, DateRangePages)
        before: set[Row] = set()
        for origin, document in pages:
            found = (self._row(f) for f in self._found(document))
            here: set[Row] = set()
            while batch := list(islice(found, BATCH_ROWS)):
                yield self._batch([row for row in batch if row not in before], origin)
                here.update(batch if overlapping else ())
            before = here

    def _batch(self, rows: Sequence[Row], origin: str) -> "pa.RecordBatch":
        import pyarrow as pa

        whole = [(*row[:-1], origin, row[-1]) for row in rows]
        columns = list(zip(*whole, strict=True)) or [()] * len(self.schema)
        return pa.RecordBatch.from_arrays([pa.array(c, pa.string()) for c in columns], schema=self.schema)

    def _row(self, found: Found) -> Row:
        try:
            return (*(self._value(column, found) for column in self.columns), None)
        except _NoRowError as e:
            return (*(None for _ in self.columns), f"{e}: {_shown(found.value)}")

    def _value(self, column: str, found: Found) -> str | None:
        try:
            value = self._text(column, found)
        except RecursionError:
            raise _NoRowError(f"{column} is nested too deeply") from None
        if value is not None and not is_whole(value):
            raise _NoRowError(f"{column} has half of a character")
        return value

    def _text(self, column: str, found: Found) -> str | None:
        if found.problem is not None:
            raise _NoRowError(found.problem)
        if column in found.captured:
            return found.captured[column]
        if column == self.source.value:
            if isinstance(found.value, dict | list):
                raise _NoRowError("no single value")
            return text_of(found.value)
        try:
            return text_of(self._field(column, found))
        except KeyError as e:
            if self.source.missing == "null" or column in self.reading.nulls:
                return None
            raise _NoRowError(f"{column} is missing") from e

    def _field(self, column: str, found: Found) -> Any:
        path = self._fields.get(column)
        if path is not None and path.from_root:
            return path.value_beside(found)
        if not isinstance(found.value, dict):
            raise _NoRowError("no mapping")
        return found.value[column] if path is None else path.value(found.value)

    @cached_property
    def _fields(self) -> dict[str, JsonPath]:
        return {column: JsonPath(path) for column, path in self.source.fields.items()}


def _shown(value: Any) -> str:
    """JSON of what is no row, as far as there is any; its page is kept as received."""
    try:
        return json_text(value).encode("utf-8", "backslashreplace").decode()
    except RecursionError:
        return "see the page"
