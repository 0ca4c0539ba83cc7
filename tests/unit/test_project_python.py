"""A manifest's Python function: found, followed and refused by its text, a part of the logic with all it imports."""

import shutil
from pathlib import Path

import pytest
from project_edits import ORDERS, ORDERS_SQL, edit, errors_of, line_of, project

from etl_assets.column_lineage import ColumnLineage
from etl_assets.project import load_project
from etl_assets.project_binding import binding_errors
from etl_resources import python_source
from tests.projects import PEOPLE

__all__ = ["project"]  # a fixture is used by its name
CLEAN, FOLDER = "datasets/sales_orders/clean.py", "datasets/sales_orders"
ORDERS_TABLE = "silver.sales_orders"
SOURCE = """\
import polars as pl

from .texts import upper
from .._shared.money import COLUMN


def clean(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(
        "order_id", "customer_id", pl.col("nation").str.strip_chars(), "order_date", upper("status"),
        pl.col("priority").str.replace("^[0-9]-", ""), upper("currency"), COLUMN, "updated_at",
    )
"""
TEXTS = "import polars as pl\n\n\ndef upper(name):\n    return pl.col(name).str.strip_chars().str.to_uppercase()\n"


@pytest.fixture
def python(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sales project, as the working directory; its orders are cleaned by Python."""
    edit(project / ORDERS, "  sql: silver.sql\n", "  python: clean.py:clean\n")
    (project / CLEAN).write_text(SOURCE)
    (project / FOLDER / "texts.py").write_text(TEXTS)
    (project / "datasets" / "_shared").mkdir()
    (project / "datasets" / "_shared" / "money.py").write_text('COLUMN = "total_price"\n')
    monkeypatch.chdir(project)
    return project


def test_a_function_with_all_it_imports_makes_the_columns_of_bronze(python: Path) -> None:
    """Without sql it is given what bronze has; validate calls it, without rows, and finds nothing wrong."""
    loaded = load_project(python)
    node = loaded.tables[ORDERS_TABLE]
    assert node.inputs == ("bronze.sales_orders",)
    assert node.function is not None
    assert list(node.function.sources) == ["sales_orders.clean", "sales_orders.texts", "_shared.money"]
    assert list(binding_errors(loaded)) == []


REFUSED = {
    "no function": ("def clean(", "def cleam(", None, "has no function 'clean'; did you mean 'cleam'? Valid: cleam"),
    "no argument": ("clean(frame: pl.DataFrame)", "clean()", "def clean", "must be a plain function of one argument"),
    "two": ("clean(frame: pl.DataFrame)", "clean(a, b)", "def clean", "must be a plain function of one argument"),
    "async": ("def clean", "async def clean", "async def", "must be a plain function of one argument"),
    "syntax": ("return frame", "return return", "    return return", "is no valid Python: invalid syntax"),
    "no module": (".texts", ".text", "from .text ", "sales_orders/text.py doesn't exist"),
    "outside": (".texts import", "...texts import", "from ...texts", "lies outside of the folder of all datasets"),
    "beside": ("from .texts", "from texts", "from texts", "texts.py lies beside it: write `from .texts import …`"),
    "not installed": ("import polars", "import polarz", "import polarz", "'polarz' is neither installed nor a part"),
    "by name": (
        "import polars as pl",
        "import polars as pl, importlib",
        "import polars",
        "importlib imports what can't",
    ),
    "by text": ("    return", "    eval('1')\n    return", "    eval", "eval runs what can't be seen beforehand"),
    "the platform": ("import polars", "import etl_assets\nimport polars", "import etl_assets", "is the platform"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_followed_is_refused_by_line(python: Path, case: tuple[str, str, str | None, str]) -> None:
    """What isn't seen is no part of the logic: its change would recompute nothing."""
    old, new, at, message = case
    edit(python / CLEAN, old, new)
    line = line_of(python / CLEAN, at) if at else 1
    assert any(e.startswith(f"{CLEAN}:{line}: ") and message in e for e in errors_of(python)), errors_of(python)


def test_a_file_or_a_name_that_is_not_there_is_told_at_the_manifest(python: Path) -> None:
    """With what is there instead."""
    line = line_of(python / ORDERS, "  python: ")
    edit(python / ORDERS, "clean.py:clean", "clear.py:clean")
    assert errors_of(python) == [
        f"{ORDERS}:{line}: clear.py doesn't exist in {FOLDER}; .py files there: clean.py, texts.py"
    ]
    edit(python / ORDERS, "clear.py:clean", "../clean.py:clean")
    assert "a .py file beside the manifest, without folders, and a function of it" in errors_of(python)[0]


def test_what_a_function_is_made_of_decides_its_table_only(python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text, those of the modules that it imports, and the version of polars; not where its file lies."""
    loaded = load_project(python)
    before = {t.name: t.logic_version for t in loaded.tables.values()}
    assert "python" in loaded.logic_parts(ORDERS_TABLE)

    def changed() -> set[str]:
        return {t.name for t in load_project(python).tables.values() if t.logic_version != before[t.name]}

    edit(python / FOLDER / "texts.py", "to_uppercase", "to_lowercase")
    assert changed() == {ORDERS_TABLE}
    edit(python / FOLDER / "texts.py", "to_lowercase", "to_uppercase")
    assert changed() == set()
    with monkeypatch.context() as newer:
        newer.setattr(python_source, "version", lambda name: "9.9.9")
        assert changed() == {ORDERS_TABLE}
    (python / FOLDER / "tidy.py").write_text((python / CLEAN).read_text())
    edit(python / ORDERS, "clean.py:clean", "tidy.py:clean")
    assert changed() == set()
    edit(python / FOLDER / "tidy.py", '"^[0-9]-"', '"^[0-9]"')
    assert changed() == {ORDERS_TABLE}


def test_sql_comes_first_where_both_are_given(python: Path) -> None:
    """Its columns are the function's input, and not the contract's: a name that is unknown is told as ever."""
    edit(python / ORDERS, "  python:", "  sql: silver.sql\n  python:")
    edit(python / ORDERS_SQL, "    updated_at\n", "    updated_at,\n    clerk as written_by\n")
    loaded = load_project(python)
    assert list(binding_errors(loaded)) == []
    edit(python / ORDERS_SQL, "clerk as written_by", "clark as written_by")
    assert any("unknown column 'clark'" in e for e in errors_of(python))


BOUND = {
    "a column that lacks": ('"updated_at",', "", "gave no column updated_at"),
    "a column too much": ('"updated_at"', '"updated_at", "clerk"', "gave column clerk, which its contract"),
    "another type": (
        "COLUMN,", "pl.col(COLUMN).cast(pl.Float64),",
        "gave column total_price as Float64, and the contract says decimal(15,2): cast it, with the rounding",
    ),
    "no frame": ("return frame", "return frame.lazy()", "gave a LazyFrame, must be a polars DataFrame: add .collect()"),
    "an error": (
        "return frame", "print(1 / 0)\n    return frame",
        f"failed: ZeroDivisionError: division by zero ({CLEAN}:8: `print(1 / 0)`)",
    ),
    "an error of its module": (
        "\n\ndef clean", "\n1 / 0\n\ndef clean",
        f"can't be imported: ZeroDivisionError: division by zero ({CLEAN}:6: `1 / 0`)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BOUND.values(), ids=BOUND)
def test_validate_calls_it_without_rows(python: Path, case: tuple[str, str, str]) -> None:
    """Most mistakes are found before a row is read, and told where the manifest names the function."""
    edit(python / CLEAN, case[0], case[1])
    (error,) = binding_errors(load_project(python))
    place = f"{ORDERS}:{line_of(python / ORDERS, '  python: ')}: "
    assert str(error).startswith(place), error
    assert case[2] in str(error)


def test_every_column_may_be_made_of_every_column_that_it_is_given(python: Path) -> None:
    """More isn't known of a function; what the SQL doesn't give it, it has not seen."""
    edit(python / ORDERS, "  python:", "  sql: silver.sql\n  python:")
    made = ColumnLineage(load_project(python)).table(ORDERS_TABLE)["status"]
    assert (made.expression or "").startswith("clean.py:clean(order_id, customer_id, ")
    names = {c.name for c in made.sources}
    assert {"status", "priority"} <= names
    assert "clerk" not in names


def test_a_function_is_given_no_masked_columns_and_marks_what_it_makes_of_hashes(tmp_path: Path) -> None:
    """A mask tells nothing and would mark the key; a hash may be in any column that comes out."""
    root = Path(shutil.copytree(PEOPLE, tmp_path / "people"))
    folder = root / "datasets" / "visitors"
    (folder / "clean.py").write_text("def clean(frame):\n    return frame\n")
    edit(folder / "manifest.yaml", "silver:\n", "silver:\n  python: clean.py:clean\n")
    node, marks = load_project(root).tables["silver.visitors"], load_project(root).sensitive
    masked = {n for n, mark in marks["bronze.visitors"].items() if mark == "mask"}
    assert masked
    assert not [n for n in masked if f'"{n}"' in (node.sql or "")]
    assert set(marks["silver.visitors"].values()) == {"made of hash"}
    assert set(marks["silver.visitors"]) == set(node.contract.names)
