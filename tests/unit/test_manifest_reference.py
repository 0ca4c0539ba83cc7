"""docs/manifest.md is generated: every field is in it with its meaning, and its example is valid."""

import json
from pathlib import Path

from project_edits import project
from pydantic import BaseModel

from etl_assets.project import load_project
from etl_resources.manifest import Dataset, Platform
from etl_resources.manifest_reference import EXAMPLE, reference
from etl_resources.manifest_schema import json_schema

__all__ = ["project"]  # a fixture is used by its name
REFERENCE = Path(__file__).parents[2] / "docs" / "manifest.md"


def test_the_reference_is_up_to_date() -> None:
    """A reference that lags behind the models is worse than none."""
    stale = "run: data-pipeline schema --markdown > docs/manifest.md"
    assert REFERENCE.read_text() == reference(), stale


def test_every_field_has_a_meaning() -> None:
    """A field without a description would be an empty cell in the reference and in editors."""
    for schema in (json_schema(Dataset), json_schema(Platform)):
        for model in (schema, *schema["$defs"].values()):
            assert model["description"], model["title"]
            assert "Usage docs" not in model["description"]
            for name, value in model.get("properties", {}).items():
                assert value.get("description"), f"{model['title']}.{name}"


def test_the_example_is_valid(project: Path) -> None:
    """Who copies the example begins with something that works."""
    folder = project / "datasets" / "customers"
    folder.mkdir()
    (folder / "manifest.yaml").write_text(EXAMPLE)
    assert "silver.customers" in load_project(project).tables


def test_the_schema_knows_the_short_form_of_a_column() -> None:
    """Editors must not underline `id: bigint`."""
    (columns,) = json_schema(Dataset)["$defs"]["PostgresSource"]["properties"]["columns"]["patternProperties"].values()
    assert {option.get("type", "mapping") for option in columns["anyOf"]} == {"string", "mapping"}
    assert json.dumps(json_schema(Platform))


def test_models_are_frozen() -> None:
    """A contract that changes during a run has no version."""
    assert issubclass(Dataset, BaseModel)
    assert Dataset.model_config["frozen"]
    assert Dataset.model_config["extra"] == "forbid"
