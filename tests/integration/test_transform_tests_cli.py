"""`data-pipeline test` as a shell sees it, and the same tests found by pytest."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from etl_assets.cli.manifests import validate
from etl_assets.cli.transform_tests import register
from etl_resources.errors import ManifestErrors, PermanentError
from tests.unit.project_edits import GDP_SQL, edit, project

__all__ = ["project"]  # a fixture is used by its name
pytest_plugins = ["pytester"]
PLUGIN = "etl_assets.transform_tests.pytest_plugin"
TEST = """\
partition: 2024-05
defaults:
  silver.sales_lines: {part_id: 7, quantity: 1, tax: 0}
given:
  silver.sales_lines:
    - {order_id: 1, line_number: 1, order_date: 2024-05-03, extended_price: 10, discount: 0.10}
  silver.sales_orders:
    - {order_id: 1, order_date: 2024-05-03, customer_id: 1, nation: PERU, currency: EUR, status: O, priority: LOW}
expect:
  - {order_id: 1, line_number: 1, net_amount: 9.00}
"""


@pytest.fixture
def tested(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sales project with one test, in the working directory."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("ETL_PROJECT", str(project))
    path = project / "datasets/gdp_sales/tests/discount.yaml"
    path.parent.mkdir()
    path.write_text(TEST)
    return project


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(validate)
    register(app)
    return CliRunner().invoke(app, list(arguments))


def test_tests_that_pass_are_counted(tested: Path) -> None:
    """Of all datasets, or of one."""
    for arguments in (["test"], ["test", "gdp_sales"]):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (0, "passed  gdp_sales/discount\n1 passed, 0 failed\n")


def test_a_failure_shows_the_difference_and_is_the_exit_code(tested: Path) -> None:
    """CI stops, and its log says why."""
    edit(tested / GDP_SQL, "1 - l.discount", "1 + l.discount")
    result = run("test")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "FAILED  gdp_sales/discount  (datasets/gdp_sales/tests/discount.yaml)",
        "        order_id 1, line_number 1: is different",
        "          net_amount  expected 9.00  got 11.00",
        "0 passed, 1 failed",
    ]
    result = run("test", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "passed": 0,
        "failed": 1,
        "tests": [
            {
                "test": "gdp_sales/discount",
                "table": "gdp.gdp_sales",
                "file": "datasets/gdp_sales/tests/discount.yaml",
                "passed": False,
                "differences": [
                    {
                        "message": "is different",
                        "key": {"order_id": "1", "line_number": "1"},
                        "columns": {"net_amount": {"expected": "9.00", "got": "11.00"}},
                    }
                ],
            }
        ],
    }


def test_a_wrong_file_is_told_by_test_and_by_validate(tested: Path) -> None:
    """`validate` is what an editor and a commit hook run."""
    edit(tested / "datasets/gdp_sales/tests/discount.yaml", "net_amount", "net_amont")
    message = "datasets/gdp_sales/tests/discount.yaml:10: unknown column 'net_amont'; did you mean 'net_amount'?"
    wrong = run("test")
    assert isinstance(wrong.exception, ManifestErrors)
    assert str(wrong.exception).startswith(message)
    checked = run("validate")
    assert checked.exit_code == 1
    assert checked.stderr.startswith(message)


def test_nothing_to_test_is_an_error(tested: Path) -> None:
    """A CI that tests nothing must not be green."""
    wrong = run("test", "sales_orders")
    assert isinstance(wrong.exception, PermanentError)
    assert str(wrong.exception) == (
        "Dataset sales_orders has no tests: write one as datasets/sales_orders/tests/<test>.yaml."
    )


def test_pytest_finds_the_tests_of_a_project(tested: Path, pytester: pytest.Pytester) -> None:
    """Where people have pytest, their editor and CI run these tests with the others; other YAML is left alone."""
    (tested / "tests").mkdir()
    (tested / "tests/other.yaml").write_text("a: b")
    arguments = ["-p", PLUGIN, "-p", "no:cacheprovider", str(tested)]
    passed = pytester.runpytest_inprocess(*arguments, "-v", "--color=no")
    passed.assert_outcomes(passed=1)
    passed.stdout.fnmatch_lines(["*discount.yaml::discount PASSED*"])


def test_pytest_shows_the_difference_and_no_traceback(tested: Path, pytester: pytest.Pytester) -> None:
    """The traceback would be of this product, the mistake is in the project."""
    edit(tested / "datasets/gdp_sales/tests/discount.yaml", "9.00", "9.01")
    (tested / "datasets/gdp_sales/tests/wrong.yaml").write_text("partition: 2024-05\n")
    result = pytester.runpytest_inprocess("-p", PLUGIN, "-p", "no:cacheprovider", str(tested))
    result.assert_outcomes(failed=2)
    text = result.stdout.str()
    assert "order_id 1, line_number 1: is different\n  net_amount  expected 9.01  got 9.00\n" in text
    assert "wrong.yaml:1: given is missing" in text
    assert "Traceback" not in text
    assert "runtest" not in text
