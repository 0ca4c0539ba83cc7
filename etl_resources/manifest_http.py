"""What a manifest says of an HTTP API: how its pages are asked for, who asks, and where the rows are in them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from etl_resources.json_path import JsonPath
from etl_resources.manifest_columns import Columns
from etl_resources.manifest_types import Date, Identifier, JsonPathText, SecretReference, Strict, UrlPath

RANGE_PLACEHOLDERS = ("{start}", "{end}")


class DateRangePages(Strict):
    """A page per range of days; path or query carry {start} and {end}, the range's first and last day."""

    by: Literal["date_range"] = Field(description="Ranges of days.")
    every: Literal["day", "month", "year"] = Field(default="month", description="Length of a range.")
    start: Date = Field(description="First day that is asked for.")
    end: Date | None = Field(
        default=None, description="Last day; omitted: the calendar's. Ranges that begin after today are left out."
    )


class NumberedPages(Strict):
    """Pages by number, until one has no rows."""

    by: Literal["page"] = Field(description="Page numbers.")
    parameter: str = Field(default="page", min_length=1, description="Query parameter of the number.")
    first: int = Field(default=1, ge=0, description="Number of the first page.")
    total: JsonPathText | None = Field(
        default=None, description="Path to the number of rows in all, e.g. meta.total: it ends the pages and is proved."
    )


class OffsetPages(Strict):
    """Pages by the number of rows before them, until one has no rows."""

    by: Literal["offset"] = Field(description="Row numbers.")
    parameter: str = Field(default="offset", min_length=1, description="Query parameter of the offset.")
    total: JsonPathText | None = Field(default=None, description="As of numbered pages.")


class CursorPages(Strict):
    """Each page names the next one, until one names none."""

    by: Literal["cursor"] = Field(description="A cursor in the page.")
    parameter: str = Field(default="cursor", min_length=1, description="Query parameter that takes the cursor.")
    next: JsonPathText = Field(description="Path to the cursor of the next page; missing, null or empty at the end.")
    total: JsonPathText | None = Field(default=None, description="As of numbered pages.")


class LinkPages(Strict):
    """Each answer links to the next page: the header `Link: <…>; rel="next"`, or an address in the page."""

    by: Literal["link"] = Field(description="Links.")
    next: JsonPathText | None = Field(
        default=None, description="Path to the address in the page; omitted: the Link header."
    )
    total: JsonPathText | None = Field(default=None, description="As of numbered pages.")


Pages = Annotated[DateRangePages | NumberedPages | OffsetPages | CursorPages | LinkPages, Field(discriminator="by")]


class Bearer(Strict):
    """`Authorization: Bearer …`."""

    secret: SecretReference = Field(description="Reference to the token.")


class Basic(Strict):
    """`Authorization: Basic …`."""

    user: SecretReference = Field(description="Reference to the user's name.")
    password: SecretReference = Field(description="Reference to the password.")


class ApiKey(Strict):
    """A key in a header or in the query."""

    header: str | None = Field(default=None, min_length=1, description="Header that carries it, e.g. X-Api-Key.")
    query: str | None = Field(default=None, min_length=1, description="Query parameter that carries it.")
    secret: SecretReference = Field(description="Reference to the key.")

    @model_validator(mode="after")
    def _one_place(self) -> "ApiKey":
        if (self.header is None) == (self.query is None):
            raise ValueError("an API key names exactly one of header, query")
        return self


class Auth(Strict):
    """Who asks: one of bearer, basic, api_key. It is sent to the system's own address only."""

    bearer: Bearer | None = Field(default=None, description="A token.")
    basic: Basic | None = Field(default=None, description="User and password.")
    api_key: ApiKey | None = Field(default=None, description="A key.")

    @model_validator(mode="after")
    def _one(self) -> "Auth":
        if len(self.model_fields_set) != 1:
            raise ValueError("auth names exactly one of bearer, basic, api_key")
        return self


class Limits(Strict):
    """What a page may take; beyond it, the run fails and says so."""

    connect_s: int = Field(default=10, ge=1, description="Longest wait for a connection.")
    read_s: int = Field(default=60, ge=1, description="Longest wait for the next bytes.")
    page_s: int = Field(default=300, ge=1, description="Longest time for one page.")
    page_mb: int = Field(
        default=16, ge=1, description="Largest page, unpacked; read whole, it takes about ten times that memory."
    )
    pages: int = Field(default=10_000, ge=1, description="Most pages of one delivery.")


class HttpApiSource(Strict):
    """Pages of an HTTP API that together are the whole table, as JSON."""

    kind: Literal["http_api"] = Field(description="Kind of source.")
    system: Identifier = Field(description="Entry of `systems` in platform.yaml: the address.")
    path: UrlPath = Field(description="Path below the address, e.g. /v1/orders or /v1/{start}..{end}.")
    query: dict[str, str] = Field(default_factory=dict, description="Query parameters, values in quotes.")
    pages: Pages | None = Field(default=None, description="How pages follow each other; omitted: there is one.")
    rows: JsonPathText = Field(description="Where a page's rows are.")
    null_rows: Literal["refuse", "empty"] = Field(
        default="refuse",
        description="What a page with null in place of its rows is: an error, or a page without rows (some services "
        "write an empty list so).",
    )
    value: Identifier | None = Field(
        default=None, description="Column of the value itself, where `rows` leads to scalars instead of mappings."
    )
    fields: dict[Identifier, JsonPathText] = Field(
        default_factory=dict,
        description="Column: path of its value in the row, where it isn't the key of the same name; "
        "$.orders[].id is that of the order around the row.",
    )
    missing: Literal["reject", "null"] = Field(
        default="reject", description="What a row without one of the keys is: a dead letter, or a row with a null."
    )
    auth: Auth | None = Field(default=None, description="Who asks; omitted: anybody.")
    rate_limit_per_s: int | None = Field(default=None, ge=1, description="Most requests in a second.")
    limits: Limits = Field(default_factory=Limits, description="What a page may take.")
    extract: Literal["full", "window"] = Field(
        default="full", description="`window` where the pages are date ranges: the whole window, each time."
    )
    key: tuple[Identifier, ...] = Field(min_length=1, description="Columns that identify a row.")
    columns: Columns = Field(min_length=1, description="What is read, with types; the rest stays in the raw pages.")

    @model_validator(mode="after")
    def _agrees(self) -> "HttpApiSource":
        rows, columns = JsonPath(self.rows), set(self.columns)
        if not any(step.fans_out for step in rows.steps):
            raise ValueError("rows leads to one value: end it with [] for an array or {name} for a mapping")
        if unknown := [c for c in (*rows.captures, self.value, *self.fields) if c and c not in columns]:
            raise ValueError(f"{unknown[0]!r} is not one of the columns: {', '.join(self.columns)}")
        for column, path in self.fields.items():
            field = JsonPath(path)
            if any(s.fans_out for s in field.steps) and not (field.from_root and field.shares_fan_out_with(rows)):
                raise ValueError(f"fields.{column}: {path!r} leads to several values; give $. and the way of rows")
        unplaced = columns - set(rows.captures) - {self.value} - set(self.fields)
        if self.value and unplaced:
            raise ValueError(f"column {min(unplaced)!r} has no value: rows leads to scalars, in {self.value!r}")
        self._has_ranges()
        return self

    def _has_ranges(self) -> None:
        texts = (self.path, *self.query.values())
        missing = [p for p in RANGE_PLACEHOLDERS if not any(p in text for text in texts)]
        if isinstance(self.pages, DateRangePages):
            if missing:
                raise ValueError(f"pages by date_range need {missing[0]} in path or query")
            if self.pages.end is not None and self.pages.end < self.pages.start:
                raise ValueError(f"pages end {self.pages.end} lies before their start {self.pages.start}")
        elif len(missing) < len(RANGE_PLACEHOLDERS):
            raise ValueError("{start} and {end} belong to pages by date_range")
        elif self.extract == "window":
            raise ValueError("extract window belongs to pages by date_range")
