"""Sizes of runs: what is chosen, what nobody may run, hints, categories and prices (M1, M11, G3)."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from project_edits import GDP, KPI, PLATFORM, edit, errors_of, line_of, project

from etl_assets import size_categories
from etl_assets.backfill.estimate import price_of
from etl_assets.backfill.plan import _prove_portable
from etl_assets.graph.runtime import Runtime
from etl_assets.project import load_project
from etl_assets.run_sizes import RunSizes
from etl_assets.size_categories import wrong_categories
from etl_resources.engines.spark_transform import SparkOutput
from etl_resources.errors import ManifestErrors, PermanentError
from etl_resources.manifest_runner import SizeCategories
from etl_resources.settings import Settings
from etl_resources.sizes import MANIFESTS, RAISED_TAG, SIZE_TAG, SizeChoice

__all__ = ["project"]  # a fixture is used by its name
XLARGE = "xlarge: {duckdb: {threads: 4, memory_mb: 1200}}\n\ntenants: [acme]"
UP_TO = "runner: {size: medium, up_to: large, shuffle_partition_hint: 7, partition_hint: 3}\n"


def with_xlarge(root: Path) -> None:
    edit(root / PLATFORM, "\ntenants: [acme]", f"  {XLARGE}")


def add(root: Path, manifest: str, text: str) -> None:
    (root / manifest).write_text((root / manifest).read_text() + text)


def test_a_run_takes_its_size_from_its_tag(project: Path) -> None:
    """Also where the web UI launched it: the step looks at the run, not at who asked."""
    add(project, GDP, UP_TO)
    runtime = Runtime(load_project(project), Settings())
    gdp, kpi = (runtime.project.tables[n] for n in ("gdp.gdp_sales", "kpi.kpi_net_revenue"))
    asked, raised = runtime.for_run({SIZE_TAG: "large"}), runtime.for_run({RAISED_TAG: "large"})
    told = {name: [r.sizes.name(n) for n in (gdp, kpi)] for name, r in (("asked", asked), ("raised", raised))}
    assert told == {"asked": ["large", "large"], "raised": ["large", "medium"]}
    assert (asked.sized(gdp).engine, asked.sized(runtime.project.tables["bronze.sales_lines"]).engine) == (
        "spark",
        "duckdb",
    )
    assert runtime.for_run({"other": "tag"}) is runtime
    assert runtime.sizes.name(gdp) == "medium"
    assert SizeChoice.of_tags(SizeChoice("large").tags) == SizeChoice("large")
    assert SizeChoice.of_tags(SizeChoice(raised_to="large").tags) == SizeChoice(raised_to="large")


def test_executors_read_sources_where_the_size_says_so(project: Path) -> None:
    """Not by Glue: its jobs live beside the run that holds the snapshot."""
    spread = SizeChoice("spread")
    loaded = load_project(project)
    lines = loaded.tables["bronze.sales_lines"]
    assert RunSizes(loaded, spread).engine(lines) == "spark"
    assert RunSizes(loaded, spread, by_glue=True).engine(lines) == "duckdb"
    assert RunSizes(loaded, SizeChoice("large")).engine(lines) == "duckdb"


def test_what_a_process_asks_for_counts_less_than_a_run_and_more_than_raising(project: Path) -> None:
    """ETL_SIZE is of whoever started the process; a tag is of whoever launched this run."""
    add(project, GDP, UP_TO)
    runtime = Runtime(load_project(project), Settings(size="medium"))
    gdp = runtime.project.tables["gdp.gdp_sales"]
    assert runtime.for_run({RAISED_TAG: "large"}).sizes.name(gdp) == "medium"
    assert runtime.for_run({SIZE_TAG: "large"}).sizes.name(gdp) == "large"


def test_a_hint_is_what_spark_is_given(project: Path) -> None:
    """Of that dataset alone; the size's own number holds for the others."""
    add(project, GDP, UP_TO)
    sizes = RunSizes(load_project(project), SizeChoice("large"))
    parts = {}
    for name in ("gdp.gdp_sales", "silver.sales_lines"):
        spark = sizes.spark(sizes.project.tables[name])
        assert spark is not None
        parts[name] = spark.shuffle_partitions
    assert parts == {"gdp.gdp_sales": 7, "silver.sales_lines": 4}
    assert list(SparkOutput("", {}, {}, one_file=False, parts=3).placing(["id"])) == [3, "id"]
    assert list(SparkOutput("", {}, {}, one_file=False).placing(["id"])) == ["id"]


@pytest.mark.parametrize("tag", [SIZE_TAG, RAISED_TAG])
def test_xlarge_is_refused_wherever_it_is_asked_for(project: Path, tag: str) -> None:
    """A manifest, ETL_SIZE, a run's tag: there is no way around the approval that nobody can give yet."""
    with_xlarge(project)
    loaded = load_project(project)
    for ask in (
        lambda: Runtime(loaded, Settings()).for_run({tag: "xlarge"}),
        lambda: Runtime(loaded, Settings(size="xlarge")).sizes,
    ):
        with pytest.raises(PermanentError, match=r"xlarge needs an approval.*smaller size.*Allowed: medium, large"):
            ask()
    with pytest.raises(PermanentError, match="ETL_SIZE: unknown size 'lrge'; did you mean 'large'"):
        _ = Runtime(loaded, Settings(size="lrge")).sizes
    for field in ("size", "up_to"):
        add(project, GDP, f"runner: {{{field}: xlarge}}\n")
        assert any("needs an approval" in e for e in errors_of(project))
        edit(project / GDP, f"runner: {{{field}: xlarge}}\n", "")


@pytest.mark.parametrize(
    ("runner", "at", "message"),
    [
        ("{up_to: medium}", "up_to", "up_to 'medium' isn't larger than size 'medium'"),
        ("{up_to: lrge}", "up_to", "unknown size 'lrge'; did you mean 'large'? Valid: medium, large"),
        ("{shuffle_partition_hint: 0}", "shuffle_partition_hint", "at least 1, at most 10000"),
        ("{partition_hint: 10001}", "partition_hint", "at least 1, at most 10000"),
        ("{size_category: huge}", "size_category", "valid: small, medium, large, xlarge"),
    ],
)
def test_a_runner_that_means_nothing_is_an_error(project: Path, runner: str, at: str, message: str) -> None:
    """By line, with what is valid."""
    edit(project / GDP, "gdp:\n", f"runner: {runner}\ngdp:\n")
    place = f"manifest.yaml:{line_of(project / GDP, f'{at}:')}: "
    assert any(place in e and message in e for e in errors_of(project)), errors_of(project)


def test_a_hint_that_nothing_would_follow_is_an_error(project: Path) -> None:
    """It would look as if it helped."""
    edit(project / KPI, "kpi:\n", "runner: {partition_hint: 4}\nkpi:\n")
    (error,) = errors_of(project)
    assert "a KPI's partition is one file" in error
    edit(project / KPI, "partition_hint", "shuffle_partition_hint")
    assert load_project(project)
    text = (project / PLATFORM).read_text()
    start = text.index("  large:")
    (project / PLATFORM).write_text(text[:start] + text[text.index("\ntenants") :])
    assert any("no size of platform.yaml has `spark`" in e for e in errors_of(project))


def test_a_size_up_to_which_a_run_is_raised_must_carry_over(project: Path) -> None:
    """Else the night on which it is raised is the night on which it fails."""
    edit(project / "datasets/gdp_sales/gdp_sales.sql", "l.part_id,", "(l.part_id / 2)::bigint as part_id,")
    assert load_project(project)
    add(project, GDP, "runner: {up_to: large}\n")
    assert any("doesn't carry over to Spark" in e for e in errors_of(project))


@pytest.mark.parametrize(
    ("size_bytes", "category"),
    [
        (0, "small"),
        (99_999_999, "small"),
        (100_000_000, "medium"),
        (1_000_000_000, "medium"),
        (1_000_000_001, "large"),
        (5_000_000_000, "large"),
        (5_000_000_001, "xlarge"),
    ],
)
def test_categories_begin_where_the_requirement_says(size_bytes: int, category: str) -> None:
    """Below 100 MB, up to 1 GB, up to 5 GB, above; with the workers of each."""
    found = SizeCategories()
    assert found.of(size_bytes) == category
    assert [str(c.glue) for c in found.by_name.values()] == ["G.1X × 2", "G.1X × 5", "G.1X × 10", "G.2X × 10"]


def test_categories_that_overlap_are_an_error(project: Path) -> None:
    """One of them would never be chosen."""
    small = "{max_bytes: 2000000000, glue: {worker_type: G.1X, workers: 2}}"
    edit(project / PLATFORM, "tenants:", f"size_categories: {{small: {small}}}\ntenants:")
    assert any("max_bytes must grow from small to large" in e for e in errors_of(project))


def test_a_wrong_category_is_told_with_what_was_measured(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the table of the dataset that reads most; a right one, and a dataset that declares none, are not told."""
    add(project, GDP, "runner: {size_category: small}\n")
    loaded, connection = load_project(project), object()
    read: dict[str, int] = {"gdp.gdp_sales": 2_340_000_000}
    monkeypatch.setattr(size_categories, "read_inputs", lambda _, assets: {a: read[a] for a in assets})
    given: Any = connection
    (told,) = wrong_categories(loaded, given, list(loaded.tables))
    assert told == (
        "gdp_sales declares size_category small, and a run of gdp.gdp_sales read 2.3 GB: that is large "
        "(G.1X × 10 on Glue). Write `size_category: large` in its manifest."
    )
    read["gdp.gdp_sales"] = 99
    assert list(wrong_categories(loaded, given, list(loaded.tables))) == []
    assert str(loaded.platform.glue_workers(loaded.datasets["gdp_sales"].runner)) == "G.1X × 2"


def test_spark_has_a_price_of_its_own(project: Path) -> None:
    """A run is as dear as its dearest part; without a price of one, the cost isn't known."""
    prices = 'prices: {currency: EUR, per_worker_hour: {large: {duckdb: "0.10", spark: "0.40"}}}\n'
    edit(project / PLATFORM, "tenants:", f"{prices}tenants:")
    loaded = load_project(project)
    large = RunSizes(loaded, SizeChoice("large"))
    assert price_of(large, ["bronze.sales_lines"]) == Decimal("0.10")
    assert price_of(large, ["bronze.sales_lines", "gdp.gdp_sales"]) == Decimal("0.40")
    assert price_of(RunSizes(loaded, MANIFESTS), ["gdp.gdp_sales"]) is None
    edit(project / PLATFORM, 'large: {duckdb: "0.10"', 'medium: {duckdb: "0.10"')
    assert any("size 'medium' has no spark: remove its price" in e for e in errors_of(project))


def test_glue_costs_all_of_its_workers(project: Path) -> None:
    """Ten workers for the price of one would be a bill ten times as high as planned."""
    prices = 'prices: {currency: EUR, per_worker_hour: {large: {duckdb: "0.10", glue: "0.44"}}}\n'
    edit(project / PLATFORM, "tenants:", f"{prices}tenants:")

    def price(asset: str) -> Decimal | None:
        return price_of(RunSizes(load_project(project), SizeChoice("large"), by_glue=True), [asset])

    assert price("bronze.sales_lines") == Decimal("0.10")
    assert price("gdp.gdp_sales") == Decimal("0.44") * 2 * 2, "two partitions at once"
    add(project, GDP, "runner: {size_category: medium}\n")
    assert price("gdp.gdp_sales") == Decimal("0.44") * 5 * 2
    edit(project / GDP, "runner: {size_category: medium}\n", "")
    edit(project / PLATFORM, ', glue: "0.44"', "")
    assert price("gdp.gdp_sales") is None
    edit(project / PLATFORM, ", glue: {worker_type: G.1X, workers: 2}", "")
    assert price("gdp.gdp_sales") is None, "nothing says how many workers"


def test_sql_of_a_size_is_proven_for_glue_as_for_spark(project: Path) -> None:
    """It is the same Spark: a plan must refuse what its jobs would refuse."""
    edit(project / "datasets/gdp_sales/gdp_sales.sql", "l.part_id,", "(l.part_id / 2)::bigint as part_id,")
    loaded = load_project(project)
    for by_glue in (False, True):
        with pytest.raises(ManifestErrors, match="doesn't carry over to Spark"):
            _prove_portable(RunSizes(loaded, SizeChoice("large"), by_glue=by_glue), ["gdp.gdp_sales"])
