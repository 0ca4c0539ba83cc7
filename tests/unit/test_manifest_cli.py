"""The verbs validate, schema and new as a shell sees them: output, streams, exit codes."""

import json
from pathlib import Path

import pytest
import typer
from project_edits import GDP_SQL, ORDERS, edit, project
from typer.testing import CliRunner, Result

from etl_assets.cli.manifests import register
from etl_resources.errors import PermanentError

__all__ = ["project"]  # a fixture is used by its name


def run(*arguments: str) -> Result:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, list(arguments))


def test_a_valid_project_is_counted(project: Path) -> None:
    """The numbers say that something was checked."""
    result = run("validate", str(project))
    assert (result.exit_code, result.stdout) == (0, "4 datasets, 6 tables, 1 serving target: valid\n")


def test_errors_are_lines_on_stderr(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI logs and editors find file:line at the beginning of a line."""
    monkeypatch.chdir(project)
    edit(project / ORDERS, "tenant: acme", "tenant: other")
    edit(project / GDP_SQL, "o.nation,", "o.land,")
    result = run("validate", str(project))
    assert result.exit_code == 1
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first.startswith(f"{GDP_SQL}:7: unknown column 'o.land'; ")
    assert second == f"{ORDERS}:3: unknown tenant 'other'; valid: acme (platform.yaml)"


def test_errors_as_json(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs read file, line and message apart."""
    monkeypatch.chdir(project)
    assert json.loads(run("validate", "--json", str(project)).stdout) == {"valid": True, "errors": []}
    edit(project / ORDERS, "tenant: acme", "tenant: other")
    result = run("validate", "--json", str(project))
    assert result.exit_code == 1
    message = "unknown tenant 'other'; valid: acme (platform.yaml)"
    assert json.loads(result.stdout) == {"valid": False, "errors": [{"file": ORDERS, "line": 3, "message": message}]}


def test_schemas_are_for_editors() -> None:
    """One for each kind of file, with what fields mean."""
    manifest, platform = json.loads(run("schema").stdout), json.loads(run("schema", "--platform").stdout)
    assert manifest["properties"]["owner"]["description"] == "Who answers for it."
    assert manifest["additionalProperties"] is False
    assert "calendar" in platform["properties"]
    assert run("schema", "--markdown").stdout.startswith("# Manifest reference\n")


def test_new_refuses_what_it_cannot_read_or_would_overwrite(project: Path) -> None:
    """Before any connection is made."""
    wrong = run("new", "orders", "--from", "erp.orders", "--project", str(project))
    assert isinstance(wrong.exception, PermanentError)
    assert str(wrong.exception) == "--from 'erp.orders' is not valid; expected postgres:<schema>.<table>."
    again = run("new", "sales_orders", "--from", "postgres:erp.orders", "--project", str(project))
    assert isinstance(again.exception, PermanentError)
    assert "sales_orders/manifest.yaml exists already: use --force to overwrite it" in str(again.exception)
