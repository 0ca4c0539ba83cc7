"""Sensitive columns: what can't work with covered values, and what would bring hidden ones to light."""

from collections.abc import Iterable, Iterator, Mapping

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from etl_assets.project_files import ProjectFiles
from etl_assets.project_resolve import TableDraft
from etl_assets.reconciliations import reconciliations
from etl_assets.sensitive_columns import MASK, Mark, Marks
from etl_resources.errors import ManifestError
from etl_resources.manifest_columns import DECIMAL, Column
from etl_resources.manifest_sources import PostgresSource, Source
from etl_resources.sensitive import HASHED_TYPES, MASKED_TYPES
from etl_resources.sql_check import parse_control, referenced_tables

Drafts = Mapping[str, TableDraft]
Place = tuple[str | int, ...]


def sensitive_errors(files: ProjectFiles, drafts: Drafts, marks: Marks) -> Iterator[ManifestError]:
    """Everything that is wrong about sensitive columns. marks: of sensitive_columns."""
    for draft in drafts.values():
        if draft.layer == "bronze":
            yield from _source(files, draft)
            continue
        for name, column in draft.file.model.table(draft.layer).columns.items():
            if column.sensitive:
                message = f"column {name!r}: sensitive belongs into source, where its values are covered"
                yield draft.file.error(message, draft.layer, "columns", name, "sensitive")
        yield from _dropped(draft, drafts)
        yield from _types_and_rules(draft, marks.get(draft.name, {}))
        yield from _masked(draft, marks)
        yield from _compared(draft, marks)
    yield from _control_totals(files)


def _source(files: ProjectFiles, draft: TableDraft) -> Iterator[ManifestError]:
    dataset, source = draft.file.model, draft.file.model.source
    assert source is not None  # noqa: S101  (bronze has a source)
    by = dataset.partitions.by if dataset.partitions else None
    for name, column in source.columns.items():
        if column.sensitive is None:
            continue
        at = ("source", "columns", name)
        if problem := _of_column(source, name, column, by):
            yield draft.file.error(f"column {name!r} can't be `sensitive: {column.sensitive}`: {problem}", *at)
        if column.sensitive == "hash" and files.platform.model.hash_key is None:
            message = f"column {name!r} is hashed, and platform.yaml names no key: add `hash_key: {{secret: …}}`"
            yield draft.file.error(f'{message}, e.g. "env:HASH_KEY"', *at, "sensitive")


def _of_column(source: Source, name: str, column: Column, by: str | None) -> str | None:
    mode, kind = column.sensitive, column.type or ""
    if name == by:
        return "it places rows in partitions, by its value"
    if isinstance(source, PostgresSource) and name == source.change_column:
        return "it tells what changed, by its value"
    if name in source.key and mode != "hash":
        return "it is of the key, by which rows are told apart; valid: hash"
    if name in source.key and by is not None:
        return "it is of the key, by which rows that move between partitions are looked up in the source"
    if mode == "mask" and kind not in MASKED_TYPES:
        return f"a {kind} has no mask that isn't taken for a value; valid: drop, hash"
    if mode == "hash" and kind not in HASHED_TYPES and not DECIMAL.match(kind):
        return f"the hashes of a {kind} are soon told apart; valid: drop"
    if mode == "drop" and column.renamed_from:
        return f"what was captured as {column.renamed_from} stays in the table; declare that one as dropped, too"
    return None


def _dropped(draft: TableDraft, drafts: Drafts) -> Iterator[ManifestError]:
    """A transform that wants what never was captured."""
    bronze = drafts.get(f"bronze.{draft.dataset}")
    dropped = bronze.contract.dropped if bronze and draft.layer == "silver" else ()
    for column in draft.query.find_all(exp.Column) if draft.query and dropped else ():
        if column.name in dropped:
            line = column.this.meta.get("line", 1)
            message = f"column {column.name!r} is `sensitive: drop` in source: its values never enter bronze"
            if draft.sql_file:
                yield draft.sql_error(f"{message}; take it out, or hash or mask it", line)
            else:
                yield draft.file.error(f"{message}; take it out, or hash or mask it", "silver", "columns", column.name)


def _types_and_rules(draft: TableDraft, marks: Mapping[str, Mark]) -> Iterator[ManifestError]:
    """What is said of a value holds for what covers it: nobody sees the value any more."""
    for column in draft.contract.columns:
        mark = marks.get(column.name)
        if mark is None or not mark.is_taken:
            continue
        at = (draft.layer, "columns", column.name)
        if mark.is_hash and column.type != "string":
            message = f"column {column.name!r} is a {column.type}, and what it is made of is hashed: its type is string"
            yield draft.file.error(message, *at, "type")
        if column.rules:
            message = (
                f"check of {column.name!r}: its values are covered ({mark}), the rule would judge what covers them"
            )
            yield draft.file.error(f"{message}; take it away (nullable: false holds)", *at, "check")


def _masked(draft: TableDraft, marks: Marks) -> Iterator[ManifestError]:
    """Masked values are all equal: rows that are told apart, compared or placed by them are mixed up."""
    own = {n for n, mark in marks.get(draft.name, {}).items() if MASK in mark.modes}
    for columns, use, at in _uses(draft):
        yield from (_mixed(draft, name, use, *at) for name in columns if name in own)
    table = draft.file.model.table(draft.layer)
    grain = table.grain or (f"bronze.{draft.dataset}" if draft.layer == "silver" else "")
    of_grain = {n for n, mark in marks.get(grain, {}).items() if MASK in mark.modes}
    for i, left_out in enumerate(table.filters):
        for name in sorted(of_grain & _named(left_out.expression)):
            yield _mixed(draft, name, f"filter {left_out.name!r} is of its values", draft.layer, "filters", i)


def _uses(draft: TableDraft) -> Iterator[tuple[Iterable[str], str, Place]]:
    """Columns of a table whose single values matter, what for, and where that is said."""
    dataset, table = draft.file.model, draft.file.model.table(draft.layer)
    yield table.key, "it is of the key", (draft.layer, "key")
    if dataset.partitions:
        yield [dataset.partitions.by], "it places rows in partitions", ("partitions",)
    for i, target in enumerate(dataset.serving if dataset.layers[-1] == draft.layer else ()):
        yield target.key or (), "it is of a target's key", ("serving", i, "key")
    for i, check in enumerate(table.checks):
        columns = (*(check.unique or ()), *([check.freshness.column] if check.freshness else []))
        yield columns, f"a check is of its values ({check.kind})", (draft.layer, "checks", i)
    for i, rule in enumerate(table.rules):
        yield _named(rule.expression), f"rule {rule.name!r} is of its values", (draft.layer, "rules", i)


def _mixed(draft: TableDraft, name: str, use: str, *at: str | int) -> ManifestError:
    return draft.file.error(f"column {name!r} is made of masked values, and {use}: hash it in its source", *at)


def _compared(draft: TableDraft, marks: Marks) -> Iterator[ManifestError]:
    """A hash equals a hash and nothing else."""
    for at, (table, name), (other_table, other) in _pairs(draft):
        one, two = marks.get(table, {}).get(name), marks.get(other_table, {}).get(other)
        if any(m and MASK in m.modes for m in (one, two)):
            yield _mixed(draft, name, f"it is compared with {other_table}.{other}", *at)
        elif bool(one and one.is_hash) != bool(two and two.is_hash):
            hashed, clear = ((table, name), (other_table, other)) if one and one.is_hash else (
                (other_table, other), (table, name))  # fmt: skip
            message = f"{'.'.join(hashed)} is hashed and {'.'.join(clear)} isn't: they are never equal"
            yield draft.file.error(f"{message}; hash both in their sources", *at)


def _pairs(draft: TableDraft) -> Iterator[tuple[Place, tuple[str, str], tuple[str, str]]]:
    """Place in the manifest, and the two columns that are compared there."""
    for asset, lookup in draft.file.model.lookups(draft.layer).items():
        for field, pairs in (("on", lookup.on), ("as_of", lookup.as_of or {})):
            for own, theirs in pairs.items():
                yield (draft.layer, "lookups", asset, field, own), (lookup.from_, own), (asset, theirs)
    for asset, reference in draft.declared_references.items():
        for own, theirs in reference.on.items():
            yield (draft.layer, "references", asset, "on", own), (draft.name, own), (asset, theirs)


def _control_totals(files: ProjectFiles) -> Iterator[ManifestError]:
    """Control totals are kept as they come from the system of record: in clear."""
    hidden: dict[tuple[str, str], set[str]] = {}
    for file in files.datasets.values():
        source = file.model.source
        if isinstance(source, PostgresSource):
            names = {name for name, c in source.columns.items() if c.sensitive}
            for table, columns in _of_tables(source, names):
                hidden.setdefault((source.system, table), set()).update(columns)
    for file in files.datasets.values():
        for declared in reconciliations(file.model):
            sql = files.controls.get(declared.control)
            query = parse_control(sql.text)[0] if sql else None
            if sql is None or query is None:
                continue
            read = {r.name for r in referenced_tables(query)}
            names = set().union(*(hidden.get((declared.rule.system, table), set()) for table in read))
            for column in query.find_all(exp.Column):
                if column.name in names:
                    message = f"column {column.name!r} is sensitive, and control totals are kept in clear: leave it out"
                    yield sql.error(message, column.this.meta.get("line", 1))


def _of_tables(source: PostgresSource, sensitive: set[str]) -> Iterable[tuple[str, set[str]]]:
    """The table and its parents, each with the names that sensitive columns have there."""
    joined: set[str] = set()
    for join in source.joins:
        joined |= join.columns.keys()
        yield join.table, {theirs for ours, theirs in join.columns.items() if ours in sensitive}
    yield source.table, sensitive - joined


def _named(expression: str) -> set[str]:
    """Columns that an expression names; none where it can't be read, which is an error of its own."""
    try:
        return {c.name for c in sqlglot.parse_one(expression, dialect="duckdb").find_all(exp.Column)}
    except SqlglotError:
        return set()
