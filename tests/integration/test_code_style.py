"""Style is a test: what the linters say is part of the one command that CI runs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy strict": ["mypy"],
    "import-linter": ["importlinter.cli", "lint"],
}


@pytest.mark.parametrize("arguments", TOOLS.values(), ids=TOOLS)
def test_the_code_passes(arguments: list[str]) -> None:
    """A finding that nobody looks at is a finding that nobody fixes."""
    code = "from importlinter.cli import lint_imports_command as m; m()" if "importlinter" in arguments[0] else None
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_modules_stay_small() -> None:
    """Beyond 300 lines there is usually a second idea in a module."""
    big = {
        str(path.relative_to(ROOT)): lines
        for package in ("etl_assets", "etl_resources", "tests", "benchmarks")
        for path in (ROOT / package).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 320
    }
    assert not big


def test_the_wheel_carries_manifests_sql_and_migrations(tmp_path: Path) -> None:
    """What is installed must run: a manifest that stays behind in the source tree is a dataset that vanishes."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", wheel], check=True, capture_output=True, text=True
    ).stdout
    data = [
        path.relative_to(ROOT)
        for package in ("etl_assets", "etl_resources")
        for suffix in ("yaml", "sql")
        for path in (ROOT / package).rglob(f"*.{suffix}")
    ]
    assert data
    assert [str(p) for p in data if str(p) not in names] == []
