"""pytest finds the tests of a project's transforms: `pytest` in its folder, or `pytest path/of/a/test.yaml`.

Registered as an entry point, so it is imported by every run of pytest: nothing heavy at module level.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from etl_assets.project import Project
    from etl_assets.transform_tests.run import CaseResult


class DifferentError(Exception):
    """The transform made something else of the given rows."""

    def __init__(self, result: "CaseResult") -> None:
        lines = [line for difference in result.differences for line in difference.lines()]
        super().__init__("\n".join(lines))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "TransformTestFile | None":
    """`datasets/<dataset>/tests/<test>.yaml` of a folder with a platform.yaml."""
    places = file_path.parents
    ours = (
        file_path.suffix == ".yaml"
        and len(places) > 3
        and (places[0].name, places[2].name) == ("tests", "datasets")
        and (places[1] / "manifest.yaml").is_file()
        and (places[3] / "platform.yaml").is_file()
    )
    return TransformTestFile.from_parent(parent, path=file_path) if ours else None


class TransformTestFile(pytest.File):
    """A file holds one test."""

    def collect(self) -> Iterator["TransformTestItem"]:
        yield TransformTestItem.from_parent(self, name=self.path.stem)


class TransformTestItem(pytest.Item):
    """A test; a file that is wrong is a failed test, and so is a project that doesn't load."""

    def runtest(self) -> None:
        from etl_assets.transform_tests.cases import load_case
        from etl_assets.transform_tests.run import run_cases

        case = load_case(_project(self.path.parents[3]), self.path)
        for result in run_cases([case]):
            if not result.passed:
                raise DifferentError(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What a person needs: the differences, or the error with its line; a crash with its traceback."""
        from etl_resources.errors import DataPipelineError

        if isinstance(excinfo.value, DifferentError | DataPipelineError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where it is and what it is called in reports."""
        return self.path, 0, f"{self.path.parents[1].name}/{self.name}"


@cache
def _project(root: Path) -> "Project":
    from etl_assets.project import load_project

    return load_project(root)
