"""Style is a test: what the linters say is part of the one command that CI runs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"
TOOLS = {
    "ruff check": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "mypy strict": ["-m", "mypy"],
    "import-linter": ["-c", LINT_IMPORTS],
}


@pytest.mark.parametrize("arguments", TOOLS.values(), ids=TOOLS)
def test_the_code_passes(arguments: list[str]) -> None:
    """A finding that nobody looks at is a finding that nobody fixes."""
    run = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
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
    source = tmp_path / "source"  # building leaves files beside the source
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, source]
    subprocess.run(command, check=True, capture_output=True)
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
