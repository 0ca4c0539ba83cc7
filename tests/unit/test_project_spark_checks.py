"""A dataset whose size is Spark's says in SQL only what carries over; `validate` tells, by line and name."""

from pathlib import Path

from project_edits import GDP, GDP_SQL, ORDERS, PLATFORM, edit, errors_of, line_of, project

from etl_assets.project import load_project

__all__ = ["project"]  # a fixture is used by its name


def large(root: Path, manifest: str) -> None:
    """Let Spark compute a dataset."""
    text = (root / manifest).read_text()
    if "runner:" in text:
        edit(root / manifest, "size: medium", "size: large")
    else:
        (root / manifest).write_text(f"{text}runner: {{size: large}}\n")


def test_sql_that_doesnt_carry_over_is_an_error_where_the_size_is_sparks(project: Path) -> None:
    """With the embedded engine the same SQL is right."""
    edit(project / GDP_SQL, "l.part_id,", "(l.part_id / 2)::bigint as part_id,")
    assert load_project(project)
    large(project, GDP)
    line = line_of(project / GDP_SQL, "(l.part_id / 2)")
    errors = errors_of(project)
    assert all(f"gdp_sales.sql:{line}: " in e for e in errors)
    assert any(
        "'l.part_id / 2' doesn't carry over to Spark: the engines divide differently: use //" in e for e in errors
    )


def test_a_rule_and_a_filter_that_dont_carry_over_are_errors(project: Path) -> None:
    """They are computed where the rows are."""
    edit(project / ORDERS, "check: {isin: [O, F, P]}", "check: {matches: '\\w'}")
    assert load_project(project)
    large(project, ORDERS)
    (error,) = errors_of(project)
    assert "sales_orders/manifest.yaml" in error
    assert "rule matches can't be computed by Spark" in error


def test_the_sales_project_carries_over_as_it_is(project: Path) -> None:
    """Tests run it on both engines."""
    for manifest in (ORDERS, GDP):
        large(project, manifest)
    assert load_project(project).platform.sizes["large"].spark
    edit(project / PLATFORM, "cores: 2", "cores: 0")
    assert "cores" in errors_of(project)[0]
