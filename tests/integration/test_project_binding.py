"""What only the engine or Dagster can say of a project: found, and shown, without a server."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from etl_assets.cli.manifests import register
from etl_assets.graph.assets import build_assets
from etl_assets.graph.runtime import Runtime
from etl_assets.project import load_project
from etl_assets.project_binding import binding_errors
from tests.unit.project_edits import GDP_SQL, LINES, ORDERS, ORDERS_SQL, edit, line_of, project

__all__ = ["project"]  # a fixture is used by its name

KEY = "  key: [order_id, line_number]\n  sql: silver.sql\n"
RULE = KEY + "  rules:\n    - {{name: shipped, expression: {}, severity: {}}}\n"
GE = "check: {ge: 1}"
CHECKS = '    - {rejected_share: {le: "0.05"}}\n'
QUERY = "datasets/sales_lines/dear.sql"


def test_the_engine_has_a_say_in_rules(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sqlglot knows no types, and Python's regular expressions know more than the engine's."""
    monkeypatch.chdir(project)
    edit(project / LINES, KEY, RULE.format("extended_price - tax", "reject"))
    edit(project / ORDERS, '"[A-Z]{3}"', '"(?=E)[A-Z]{3}"')
    found = sorted(str(e) for e in binding_errors(load_project(project)))
    place = f"{LINES}:{line_of(project / LINES, '    - {name: shipped')}: "
    assert len(found) == 2
    assert found[0].startswith(f"{place}expression of rule 'shipped': is a DECIMAL")
    assert f"{ORDERS}:{line_of(project / ORDERS, '    currency: {nullable')}: check of 'currency': matches" in found[1]


def test_the_sql_of_a_check_is_bound_and_is_part_of_the_logic(project: Path) -> None:
    """The engine reads it before a run does, and another query is another logic; its name and description are not."""
    checks = f"{CHECKS}    - {{sql: dear.sql, severity: warn}}\n"
    edit(project / LINES, CHECKS, checks)
    versions = []
    for sql in ("select order_id from silver.sales_lines where tax > 1;", "select order_id from silver.sales_lines"):
        (project / QUERY).write_text(sql)
        loaded = load_project(project)
        assert list(binding_errors(loaded)) == []
        versions.append(loaded.tables["silver.sales_lines"].logic_version)
    edit(project / LINES, "severity: warn}\n", "severity: warn, name: expensive, description: too dear}\n")
    versions.append(load_project(project).tables["silver.sales_lines"].logic_version)
    assert versions[0] != versions[1] == versions[2]
    (project / QUERY).write_text("select order_id from silver.sales_lines where tax + order_date > 1")
    assert any("dear.sql" in str(e) or "silver.sql" in str(e) for e in binding_errors(load_project(project)))


def test_rules_that_do_not_reject_are_checks_in_dagster(project: Path) -> None:
    """Each declared check is seen in the web UI, under its name and with its severity."""
    edit(project / LINES, KEY, RULE.format("tax <= discount", "warn"))
    edit(project / LINES, GE, "check: {ge: 1, severity: error}")
    loaded = load_project(project)
    specs = {
        spec.name: spec
        for asset in build_assets(loaded, Runtime(loaded))
        for spec in getattr(asset, "check_specs", ())
        if spec.asset_key.path == ["silver", "sales_lines"]
    }
    assert not specs["shipped"].blocking
    assert specs["shipped"].description == "tax <= discount"
    assert specs["line_number_ge"].blocking


def test_the_engine_binds_the_period(project: Path) -> None:
    """A transform may ask which month it makes; a type that doesn't fit is found without data."""
    edit(project / GDP_SQL, "    l.order_date,", "    (select start_date from calendar.period) as order_date,")
    loaded = load_project(project)
    assert loaded.tables["gdp.gdp_sales"].inputs == ("silver.sales_lines", "silver.sales_orders")
    assert list(binding_errors(loaded)) == []
    edit(project / GDP_SQL, "(select start_date", "(select partition")
    assert list(binding_errors(load_project(project))) == []
    edit(
        project / GDP_SQL, "(select partition from calendar.period)", "(select epoch(start_date) from calendar.period)"
    )
    (error,) = binding_errors(load_project(project))
    assert "column order_date is DOUBLE and the contract says date" in str(error)


def test_a_type_that_would_lose_digits_is_found_offline(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `/` on decimals is a double in the engine: money must not find out in the first run."""
    monkeypatch.chdir(project)
    edit(project / GDP_SQL, "round(l.extended_price * (1 - l.discount), 2)::decimal(18, 2) as net", "l.tax / 2 as net")
    (error,) = map(str, binding_errors(load_project(project)))
    assert error.startswith(f"{GDP_SQL}:1: gdp.gdp_sales: column net_amount is DOUBLE")
    assert "decimal(18,2)" in error


def test_what_only_the_engine_refuses_is_found_offline(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser knows names; whether a function takes these arguments, only the engine knows."""
    monkeypatch.chdir(project)
    edit(project / ORDERS_SQL, "upper(trim(status))", "date_trunc('month', status)")
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, ["validate", str(project)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{ORDERS_SQL}:1: Binder Error")
