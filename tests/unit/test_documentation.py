"""Documentation that can go stale is compared with the code."""

import re
from pathlib import Path

import yaml
from typer.main import get_command

from etl_assets.cli.main import app
from etl_resources.manifest_tests import TransformTest
from etl_resources.settings import Settings

ROOT = Path(__file__).parents[2]


def test_every_setting_is_documented() -> None:
    """A setting nobody can find is a support call."""
    text = (ROOT / "docs/settings.md").read_text()
    missing = [n for n in Settings.model_fields if f"ETL_{n.upper()}`" not in text]
    assert not missing


def test_every_verb_is_in_the_readme() -> None:
    """A verb that the README doesn't name is not found."""
    readme = (ROOT / "README.md").read_text()
    verbs = get_command(app).commands  # type: ignore[attr-defined]
    missing = [v for v in verbs if not re.search(rf"`[^`]*\b{v}\b[^`]*`", readme)]
    assert not missing


def test_ci_runs_the_test_line_of_the_readme() -> None:
    """What a newcomer runs is what CI runs."""
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"<!-- test line -->\n```bash\n(.*?)\n```", readme, re.DOTALL)
    assert block
    assert len(block[1].splitlines()) == 1
    assert "<!-- test line -->" in (ROOT / ".ci/run").read_text()


def test_every_field_of_a_transforms_test_is_documented() -> None:
    """Its vocabulary is small enough for a table, and too strict to be guessed."""
    text = (ROOT / "docs/transform-tests.md").read_text()
    assert [n for n in TransformTest.model_fields if f"| `{n}` |" not in text] == []


def test_the_documented_test_of_a_transform_is_one_of_the_example() -> None:
    """It runs there."""
    text = (ROOT / "docs/transform-tests.md").read_text()
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert block
    example = ROOT / "etl_assets/datasets/gdp_sales/tests/rouble.yaml"
    assert yaml.safe_load(block[1]) == yaml.safe_load(example.read_text())
