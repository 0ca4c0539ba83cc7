"""The words of a manifest: names, types and references as strings of a form, which errors name in words."""

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from etl_resources.calendar import bounds
from etl_resources.json_path import JsonPath


class Strict(BaseModel):
    """An unknown key is an error: a misspelt option must not be ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _word(pattern: str, form: str) -> object:
    """A constraint whose errors and documentation show the form instead of the pattern."""
    return Field(pattern=pattern, json_schema_extra={"x-form": form})


def _is_period(text: str) -> str:
    bounds(text)
    return text


Identifier = Annotated[str, _word(r"^[a-z][a-z0-9_]{0,62}$", "a name: lower case letters, digits and _")]
QualifiedName = Annotated[
    str,
    _word(r"^[a-z_][a-z0-9_]{0,62}\.[a-z_][a-z0-9_]{0,62}$", "schema.table in lower case, e.g. erp.orders"),
]
SecretReference = Annotated[str, _word(r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$", "a reference, env:NAME or file:PATH")]
FileName = Annotated[str, _word(r"^[A-Za-z0-9_-]+\.sql$", "a .sql file beside the manifest, without folders")]
FunctionName = Annotated[
    str,
    _word(
        r"^[A-Za-z_][A-Za-z0-9_]*\.py:[A-Za-z_][A-Za-z0-9_]*$",
        "a .py file beside the manifest, without folders, and a function of it, e.g. clean.py:clean",
    ),
]
Month = Annotated[str, _word(r"^\d{4}-(0[1-9]|1[0-2])$", "a month, e.g. 2024-01")]
PeriodKey = Annotated[
    str,
    _word(
        r"^((week-)?\d{4}-(0[1-9]|1[0-2])-\d\d|(quarter-|fiscal-period-|fiscal-quarter-)?\d{4}-(0[1-9]|1[0-2]))$",
        "a partition's key, e.g. 2024-01 or week-2024-01-01",
    ),
    AfterValidator(_is_period),
]
Owner = Annotated[
    str,
    _word(r"^(team:[a-z0-9-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$", "team:<name> or a mail address, e.g. team:sales-data"),
]
ColumnType = Annotated[
    str,
    _word(
        r"^(bigint|int|string|date|timestamptz|boolean|decimal\(([1-9]|[12]\d|3[0-8]),\d{1,2}\))$",
        "bigint, int, string, date, timestamptz, boolean or decimal(precision,scale), precision 1 to 38",
    ),
]
TargetPattern = Annotated[
    str, _word(r"^[a-z_][a-z0-9_]*\.(\*|[a-z_][a-z0-9_]*)$", "schema.table or schema.*, e.g. analytics.*")
]
TableName = Annotated[
    str, _word(r"^(bronze|silver|gdp|kpi)\.[a-z][a-z0-9_]{0,62}$", "layer.dataset, e.g. silver.sales_lines")
]
TimeOfDay = Annotated[str, _word(r"^([01]\d|2[0-3]):[0-5]\d$", 'a time of day, e.g. "06:00"')]
Amount = Annotated[str, _word(r"^\d{1,9}(\.\d{1,6})?$", 'an amount in quotes, e.g. "0.12"')]
Currency = Annotated[str, _word(r"^[A-Z]{3}$", "a currency's ISO code, e.g. EUR")]
ResourcePrefix = Annotated[
    str, _word(r"^[a-z][a-z0-9-]{1,30}$", "2 to 31 lower case letters, digits and -, e.g. pp-dw")
]


def _is_date(text: str) -> str:
    date.fromisoformat(text)
    return text


def _is_json_path(text: str) -> str:
    JsonPath(text).steps  # noqa: B018  (raises ValueError)
    return text


Date = Annotated[
    str,
    _word(r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$", "a date, e.g. 2024-01-31"),
    AfterValidator(_is_date),
]
JsonPathText = Annotated[
    str,
    AfterValidator(_is_json_path),
    Field(json_schema_extra={"x-form": "a path, e.g. data[] or rates.{day}.{currency}"}),
]
UrlPath = Annotated[str, _word(r"^/", "a path that begins with /")]
Sensitivity = Literal["mask", "hash", "drop"]
"""What becomes of the values of a sensitive column before anything is written."""
SchemaEvolution = Literal["evolve", "freeze", "quarantine"]
"""What becomes of a source whose columns are no longer those that are captured of it."""
