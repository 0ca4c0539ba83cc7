"""Projects with an embedded stack of their own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.stack_project import DEFINITIONS, ROOT, WORKSPACE, Project


def new_project(folder: Path) -> Project:
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "dagster.yaml", folder)
    (folder / "workspace.yaml").write_text(WORKSPACE)
    (folder / "definitions.py").write_text(DEFINITIONS)
    return Project(folder)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An empty project folder; its servers are stopped and its data deleted afterwards."""
    project = new_project(tmp_path / "project")
    yield project
    project.remove()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose stack runs; tests may kill its servers, and bring them up again."""
    project = new_project(tmp_path_factory.mktemp("started"))
    project.up()
    yield project
    project.remove()
