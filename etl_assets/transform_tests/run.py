"""Run tests: each through the same transform and audit as a partition of the platform, in memory."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from etl_assets.transform_tests.cases import Case, RejectedCase
from etl_assets.transform_tests.differences import Difference, Outcome, differences
from etl_assets.transforms import transform_of
from etl_resources.engines.embedded import connect_offline
from etl_resources.engines.transform import JUDGED, Transform, engine_error, run_transform
from etl_resources.errors import PermanentError
from etl_resources.identifiers import literal, quote
from etl_resources.quality.audit import account_of, audit_transform
from etl_resources.quality.rules import REASON_TEXTS
from etl_resources.quality.second_judge import read_result

if TYPE_CHECKING:
    import duckdb


BATCHES = (1, 2)
"""Rows of a batch in which a Python function is given the rows again: it must make the same of them."""


@dataclass(frozen=True)
class CaseResult:
    """A test that ran."""

    case: Case
    differences: Sequence[Difference]

    @property
    def passed(self) -> bool:
        return not self.differences


def run_cases(cases: Sequence[Case]) -> Iterator[CaseResult]:
    """Each test's result, as soon as it is there."""
    engine = connect_offline()
    try:
        for case in cases:
            yield CaseResult(case, _differences(engine, case))
    finally:
        engine.close()


def _differences(engine: "duckdb.DuckDBPyConnection", case: Case) -> list[Difference]:
    import duckdb

    try:
        with tempfile.TemporaryDirectory(prefix="transform-test-") as folder:
            return _run(engine, case, f"{folder}/part-0.parquet")
    except duckdb.Error as e:
        return [Difference(str(engine_error("The transform failed", e)))]
    except PermanentError as e:
        return [Difference(str(e))]


def _run(engine: "duckdb.DuckDBPyConnection", case: Case, path: str) -> list[Difference]:
    contract = case.node.contract
    ids = ", ".join(f"{quote(name)}: {i}" for i, name in enumerate(contract.names, start=1))
    transform = transform_of(case.node, f"{{{ids}}}")
    rejected: list[RejectedCase] = []

    def keep_rejected(engine: "duckdb.DuckDBPyConnection") -> Mapping[str, int]:
        rejected.extend(_rejected(engine, contract.key))
        return {}

    result = run_transform(engine, transform, case.inputs, path, keep_rejected)
    whole = result.digest, result.written, result.produced, sorted(map(repr, rejected))
    for rows in BATCHES if transform.function else ():
        rejected.clear()
        cut = run_transform(engine, transform, case.inputs, f"{path}.cut", keep_rejected, batch_rows=rows)
        if (cut.digest, cut.written, cut.produced, sorted(map(repr, rejected))) != whole:
            return [Difference(_cut_differs(transform, rows))]
    scan = f"read_parquet({literal(path)})"
    columns = ", ".join(map(quote, contract.names))
    found = differences(case, Outcome(_rows(engine, f"select {columns} from {scan}"), rejected))
    stored, held = read_result(engine, contract, scan, result)
    checks = [*audit_transform(result, stored, account_of(result, transform), ()), held]
    return [*found, *(Difference(f"check {check}") for check in checks if not check.passed)]


def _cut_differs(transform: Transform, rows: int) -> str:
    return (
        f"{transform.function} makes other rows when it is given {rows} at a time: an engine cuts batches where it "
        "likes. Make each row of its row alone; what needs several rows belongs into the SQL."
    )


def _rejected(engine: "duckdb.DuckDBPyConnection", key: Sequence[str]) -> Iterator[RejectedCase]:
    keys = ", ".join(map(quote, key))
    for row in _rows(engine, f"select {keys}, {REASON_TEXTS} as _reasons from {JUDGED} where len(_reasons) > 0"):
        yield RejectedCase(tuple(row[k] for k in key), frozenset(row["_reasons"]))


def _rows(engine: "duckdb.DuckDBPyConnection", query: str) -> list[dict[str, Any]]:
    """Rows of a query by way of Arrow, which needs no further package for time zones."""
    rows = engine.execute(query).to_arrow_table().to_pylist()
    return [{n: v.astimezone(UTC) if isinstance(v, datetime) else v for n, v in row.items()} for row in rows]
