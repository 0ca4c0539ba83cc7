"""What of a dataset doesn't carry over to Spark, where its size says that Spark computes it."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from etl_assets.project_files import ProjectFiles, read_files
from etl_assets.project_resolve import TableDraft, resolve_lookups, resolve_tables
from etl_resources.business_days import DAYS, DAYS_COLUMNS
from etl_resources.calendar import PERIOD, PERIOD_COLUMNS
from etl_resources.engines.spark_inputs import relation_columns
from etl_resources.engines.spark_sql import portability_problems, spark_condition
from etl_resources.errors import ManifestError, PermanentError
from etl_resources.quality.conditions import conditions, row_condition


def spark_errors(files: ProjectFiles, drafts: Mapping[str, TableDraft]) -> Iterator[ManifestError]:
    """Each construct once, at its line of the SQL, or at the rule or filter of the manifest."""
    platform = files.platform.model
    distributed = {name for name, size in platform.sizes.items() if size.spark is not None}
    order = list(platform.sizes)
    for draft in drafts.values():
        runner = draft.file.model.runner
        largest = order.index(runner.up_to or runner.size)
        if distributed.intersection(order[order.index(runner.size) : largest + 1]):
            yield from _errors(draft, drafts)


def portability_errors(root: Path, tables: Collection[str]) -> list[ManifestError]:
    """What of these tables doesn't carry over, whatever their manifests' sizes are, as somebody asks for another."""
    files, _ = read_files(root)
    drafts = resolve_tables(files) if files else {}
    return [error for name in tables if name in drafts for error in _errors(drafts[name], drafts)]


def _errors(draft: TableDraft, drafts: Mapping[str, TableDraft]) -> Iterator[ManifestError]:
    if draft.layer == "bronze" or draft.sql is None or any(r.name not in drafts for r in draft.references):
        return  # an unknown reference is told already
    yield from _in_sql(draft, drafts)
    yield from _in_manifest(draft, drafts)


def _in_sql(draft: TableDraft, drafts: Mapping[str, TableDraft]) -> Iterator[ManifestError]:
    relations: dict[str, Mapping[str, str]] = {PERIOD: PERIOD_COLUMNS, DAYS: DAYS_COLUMNS}
    for reference in draft.references:
        layer = drafts[reference.name].layer
        relations[reference.name] = relation_columns(drafts[reference.name].contract, with_run_id=layer == "bronze")
    for name, table in resolve_lookups(draft, drafts).items():
        relations[name] = relation_columns(table.contract)
    assert draft.sql is not None  # noqa: S101  (looked at by the caller)
    yield from (draft.sql_error(p.message, p.line) for p in portability_problems(draft.sql, relations))


def _in_manifest(draft: TableDraft, drafts: Mapping[str, TableDraft]) -> Iterator[ManifestError]:
    """Rules that reject, which are computed where the rows are, and filters of the rows read."""
    own, table = relation_columns(draft.contract), draft.file.model.table(draft.layer)
    for column in draft.contract.columns:
        for rule in column.rules:
            for condition in conditions(column, rule) if rule.severity == "reject" else ():
                at = (draft.layer, "columns", column.name)
                yield from _carried(draft, condition.broken, own, f"rule {condition.rule}", at)
    for row_rule in draft.contract.rules:
        if row_rule.severity == "reject":
            broken = row_condition(row_rule).broken
            yield from _carried(draft, broken, own, f"rule {row_rule.name}", (draft.layer, "rules"))
    grain = f"bronze.{draft.dataset}" if draft.layer == "silver" else table.grain
    if grain is not None and grain in drafts:
        read = relation_columns(drafts[grain].contract, with_run_id=drafts[grain].layer == "bronze")
        for rule_left_out in table.filters:
            what = f"filter {rule_left_out.name}"
            yield from _carried(draft, rule_left_out.expression, read, what, (draft.layer, "filters"))


def _carried(
    draft: TableDraft, expression: str, columns: Mapping[str, str], what: str, at: tuple[str, ...]
) -> Iterator[ManifestError]:
    try:
        spark_condition(expression, columns, what)
    except PermanentError as e:
        yield draft.file.error(str(e), *at)
