"""Each line of docs/operations/retries.md: what a library raises is of the kind that the table says."""

import re
from pathlib import Path

import pytest

from etl_resources.classify import answer_lost, classify
from etl_resources.errors import (
    PermanentError,
    RestartError,
    RetryBudgetError,
    SettingsError,
    TransientError,
    UnknownCommitError,
)
from tests.unit.library_errors import CASES

DOCUMENT = Path(__file__).parents[2] / "docs/operations/retries.md"
KINDS: dict[str, type[Exception]] = {
    "settings": SettingsError,
    "permanent": PermanentError,
    "restart": RestartError,
    "spent": RetryBudgetError,
    "transient": TransientError,
    "unknown": UnknownCommitError,
}
"""Subclasses before their bases."""


def documented() -> dict[str, str]:
    """Error → kind, from every table with three columns."""
    found = re.findall(r"^\| ([^|]+) \| (\w+) \| [^|]+ \|$", DOCUMENT.read_text(), re.MULTILINE)
    return {error: kind for error, kind in found if error != "error"}


def test_every_line_has_a_case_and_every_case_a_line() -> None:
    """A line that nobody tests is a promise that nobody keeps."""
    assert documented().keys() == CASES.keys()
    assert set(documented().values()) == KINDS.keys()


@pytest.mark.parametrize(
    ("line", "number"), [(line, n) for line, errors in CASES.items() for n in range(len(errors))], ids=str
)
def test_an_error_is_of_the_documented_kind(line: str, number: int) -> None:
    """What is retried by mistake doubles; what isn't by mistake wakes somebody up."""
    error, kind = CASES[line][number](), documented()[line]
    known = classify(error)
    found = next((name for name, kind_type in KINDS.items() if isinstance(known, kind_type)), "a crash")
    assert found == kind or (kind == "unknown" and answer_lost(error)), f"{error!r} is {found}: {known!r}"


@pytest.mark.parametrize("line", [line for line, kind in documented().items() if kind in ("settings", "permanent")])
def test_a_refusal_is_an_answer(line: str) -> None:
    """What a server refused it has not done: nothing to read back."""
    assert not any(answer_lost(make()) for make in CASES[line])


def test_a_crash_that_nobody_foresaw_stays_one() -> None:
    """A bug must show its traceback, not look like an outage."""
    assert [classify(e) for e in (KeyError("x"), AssertionError(), ZeroDivisionError())] == [None] * 3


@pytest.mark.parametrize("status", ["403", "404", "503"])
def test_a_path_with_a_number_is_no_status(status: str) -> None:
    """Epochs are part of paths: epoch 403 is no refusal."""
    import duckdb

    path = f"s3://b/data/partition=2024-03/epoch={status}-NoSuchBucket/part-0.parquet"
    error = duckdb.IOException(f"IO Error: Could not connect to server error for HTTP HEAD to '{path}'")
    assert type(classify(error)) is TransientError
