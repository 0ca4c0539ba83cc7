"""A copy of the sales project in which tests make one mistake at a time."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_assets.project import load_project
from etl_resources.errors import ManifestErrors
from tests.projects import SALES

PLATFORM = "platform.yaml"
ORDERS, LINES = "datasets/sales_orders/manifest.yaml", "datasets/sales_lines/manifest.yaml"
GDP, KPI = "datasets/gdp_sales/manifest.yaml", "datasets/kpi_net_revenue/manifest.yaml"
ORDERS_SQL, LINES_SQL = "datasets/sales_orders/silver.sql", "datasets/sales_lines/silver.sql"
GDP_SQL, KPI_SQL = "datasets/gdp_sales/gdp_sales.sql", "datasets/kpi_net_revenue/kpi_net_revenue.sql"
CONTROL = "datasets/kpi_net_revenue/reconcile.sql"


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the four datasets and platform.yaml: made once, and what a test changes is taken back after it."""
    copy = tmp_path_factory.getbasetemp() / "sales" / "etl_assets"
    if not copy.exists():
        shutil.copytree(SALES, copy)
    before = _content(copy)
    yield copy
    after = _content(copy)
    for path in sorted(after.keys() - before.keys(), reverse=True):  # what is in a folder comes before the folder
        path.rmdir() if after[path] is None else path.unlink()
    for path, content in before.items():
        if content is None:
            path.mkdir(exist_ok=True)
        elif after.get(path) != content:
            path.write_bytes(content)


def _content(root: Path) -> dict[Path, bytes | None]:
    """Bytes by file, None for a folder; folders come before what is in them."""
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first occurrence, which must be there."""
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}: this test edits the sales project"
    path.write_text(text.replace(old, new, 1))


def errors_of(root: Path) -> list[str]:
    """The error lines of a project that doesn't load."""
    with pytest.raises(ManifestErrors) as raised:
        load_project(root)
    return [str(e) for e in raised.value.errors]


def line_of(path: Path, text: str) -> int:
    """Number of the line on which a text first begins."""
    return path.read_text().partition(text)[0].count("\n") + 1


def prove_told(root: Path, file: str, old: str, new: str, at: str, message: str) -> None:
    """The edit is an error whose line names the file, the line on which `at` begins then, and the message."""
    edit(root / file, old, new)
    place = f"{file}:{line_of(root / file, at)}: "
    found = errors_of(root)
    assert any(e.startswith(place) and message in e for e in found), f"{place}{message} not among {found}"
