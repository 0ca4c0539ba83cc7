"""The fault tests would notice: a guard is taken out of a copy of the product, and its tests must fail."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("etl_assets", "etl_resources", "tests", "pyproject.toml")
CONCURRENCY, STATEFUL = "tests/fault/test_concurrency.py", "tests/property/test_stateful.py"


@dataclass(frozen=True)
class Mutation:
    """Text that is replaced in one module, and the tests that must fail then."""

    module: str
    guard: str
    without: str
    tests: tuple[str, ...]


EPOCH_CHECK = "winners = [p for p in wanted if p.partition not in heads or heads[p.partition].epoch < p.epoch]"
AUDIT = '            failpoint("stage.file_written", what)\n'
PUBLISH_FIRST = """\
            unaudited = StagedPartition(
                planned.partition, planned.token, planned.epoch, result.version, result.written
            )
            self._runtime.store.stage(
                self._ledger,
                self._address,
                the_plan.attempt or "",
                self._run_id,
                [WrittenPartition(unaudited, result.paths, {"counts": {}, "linked": (), "stage_s": 0.0})],
            ).publish()
"""
MUTATIONS = {
    "no epoch check": Mutation(
        "etl_resources/tables/publish.py",
        EPOCH_CHECK,
        "winners = wanted",
        (f"{CONCURRENCY}::test_a_run_that_slept_while_a_newer_one_published_changes_nothing[gdp]",),
    ),
    "publish before audit": Mutation(
        "etl_assets/graph/table_step.py",
        AUDIT,
        AUDIT + PUBLISH_FIRST,
        ("tests/fault/test_storage_content.py",),
    ),
    "dropped ref assertion": Mutation(
        "etl_resources/tables/publish.py",
        '        ref_is("main", head.snapshot_id),\n',
        "",
        (f"{CONCURRENCY}::test_a_commit_built_before_another_one_landed_is_built_again",),
    ),
}


SEEDS = (1, 2)
SEARCH_S = 1200
"""Longest search for a counterexample among ten examples (profile "search")."""


@pytest.mark.long
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_product_without_this_guard_fails_its_fault_tests(name: str, tmp_path: Path) -> None:
    """A fault test that passes with the guard taken out proves nothing."""
    mutate(MUTATIONS[name], tmp_path)

    done = pytest_in(tmp_path, 500, *MUTATIONS[name].tests)

    assert done.returncode == 1, f"not a failed test:\n{done.stdout[-3000:]}{done.stderr[-1000:]}"
    assert "1 failed" in done.stdout, done.stdout[-3000:]


@pytest.mark.long
@pytest.mark.timeout(SEARCH_S + 60)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MUTATIONS)
def test_the_stateful_test_finds_out_that_this_guard_is_missing(name: str, seed: int, tmp_path: Path) -> None:
    """It knows of no guard: random steps and the model alone must show what is lost, doubled or old."""
    mutate(MUTATIONS[name], tmp_path)

    options = ("--hypothesis-profile=search", f"--hypothesis-seed={seed}", f"--timeout={SEARCH_S}")
    done = pytest_in(tmp_path, SEARCH_S + 30, STATEFUL, *options)

    assert done.returncode == 1, f"no counterexample:\n{done.stdout[-3000:]}{done.stderr[-1000:]}"
    assert "AssertionError: " in done.stdout, f"another error:\n{done.stdout[-3000:]}"
    assert "state = Platform()" in done.stdout, f"no steps of a counterexample:\n{done.stdout[-3000:]}"


def mutate(mutation: Mutation, copy: Path) -> None:
    """A copy of the product and its tests, with the guard taken out."""
    for part in COPIED:
        copy_one = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy_one(ROOT / part, copy / part)
    module = copy / mutation.module
    text = module.read_text()
    assert text.count(mutation.guard) == 1, f"{mutation.module} has another form: adapt the mutation"
    module.write_text(text.replace(mutation.guard, mutation.without))


def pytest_in(copy: Path, timeout_s: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """pytest in the copy, to its first failure."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments],
        cwd=copy,
        env={k: v for k, v in os.environ.items() if not k.startswith(("ETL_", "ERP_"))} | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
