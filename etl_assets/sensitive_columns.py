"""Which columns of the project are made of sensitive ones, and how: from manifests and SQL alone."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from etl_assets.project_resolve import TableDraft, resolve_lookups
from etl_resources.business_days import GIVEN_COLUMNS
from etl_resources.errors import PermanentError
from etl_resources.lookups import LookupTable

HASH, MASK = "hash", "mask"


@dataclass(frozen=True)
class Mark:
    """A column that is made of covered ones."""

    modes: frozenset[str]
    """mask, hash or both."""
    is_taken: bool
    """Whether it has a covered value as it is."""

    @property
    def is_hash(self) -> bool:
        """Whether its values are hashes, equal where the hidden ones are."""
        return self.is_taken and self.modes == {HASH}

    def __str__(self) -> str:
        return " and ".join(sorted(self.modes)) if self.is_taken else f"made of {' and '.join(sorted(self.modes))}"


Marks = Mapping[str, Mapping[str, Mark]]
"""Table → column → its mark; what has none is made of nothing sensitive."""


def sensitive_columns(drafts: Mapping[str, TableDraft]) -> Marks:
    """The marks of every table that has one. A table whose SQL can't be followed has none."""
    found: dict[str, Mapping[str, Mark]] = {}
    if not any(d.contract.is_sensitive for d in drafts.values()):
        return found
    for draft in _in_order(drafts):
        marks = dict(_captured(draft)) if draft.layer == "bronze" else _made(draft, drafts, found)
        if marks:
            found[draft.name] = marks
    return found


def _in_order(drafts: Mapping[str, TableDraft]) -> Iterable[TableDraft]:
    """Inputs first; a cycle, which is an error of its own, is cut."""
    done: dict[str, TableDraft] = {}

    def visit(name: str, path: frozenset[str]) -> None:
        if name in drafts and name not in done and name not in path:
            for upstream in drafts[name].upstream:
                visit(upstream, path | {name})
            done[name] = drafts[name]

    for name in drafts:
        visit(name, frozenset())
    return done.values()


def _captured(draft: TableDraft) -> Iterator[tuple[str, Mark]]:
    for column in draft.contract.columns:
        if column.cover:
            yield column.name, Mark(frozenset({column.cover.mode}), is_taken=True)


def _made(draft: TableDraft, drafts: Mapping[str, TableDraft], marks: Marks) -> dict[str, Mark]:
    if draft.query is None or draft.sql is None or not any(name in marks for name in draft.upstream):
        return {}
    given = _given(draft, drafts, marks)
    if draft.function is None or not given:
        return given
    mark = Mark(frozenset().union(*(m.modes for m in given.values())), is_taken=False)
    return dict.fromkeys(draft.contract.names, mark)  # any column may be made of any that the function is given


def _given(draft: TableDraft, drafts: Mapping[str, TableDraft], marks: Marks) -> dict[str, Mark]:
    """The columns of the SQL."""
    assert draft.sql is not None  # noqa: S101  (looked at by the caller)
    if draft.sql_file is None and draft.function is not None:
        return {n: m for n, m in marks[f"bronze.{draft.dataset}"].items() if MASK not in m.modes}
    if draft.sql_file is None:  # its columns are those of bronze
        taken = marks[f"bronze.{draft.dataset}"]
        return {name: taken[name] for name in draft.contract.names if name in taken}
    from etl_resources.sql_lineage import made_columns

    lookups = resolve_lookups(draft, drafts)
    schema = {r.name: drafts[r.name].contract.names for r in draft.references if r.name in drafts}
    schema |= {name: table.contract.names for name, table in lookups.items()}
    try:
        columns = made_columns(draft.sql, {**schema, **GIVEN_COLUMNS})
    except PermanentError:
        return {}
    found = {}
    for name, made in columns.items():
        sources = [_source(lookups, *source) for source in made.sources]
        of = [marks[table][column] for table, column in sources if column in marks.get(table, {})]
        if of:
            is_copy = len(sources) == 1 and made.expression.rpartition(".")[2] == sources[0][1] and of[0].is_taken
            found[name] = Mark(frozenset().union(*(m.modes for m in of)), is_copy)
    return found


def _source(lookups: Mapping[str, LookupTable], table: str, column: str) -> tuple[str, str]:
    """Where a looked-up value comes from: a key from the rows that look up."""
    lookup = lookups.get(table)
    if lookup is None:
        return table, column
    if column in lookup.contract.key:
        return lookup.source, column
    return lookup.asset, column
