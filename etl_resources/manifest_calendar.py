"""Business days as platform.yaml declares them: days of the week on which one works, and holidays."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from etl_resources.manifest_types import Date, Strict
from etl_resources.suggest import hint

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WORKING_DAYS: tuple[Weekday, ...] = WEEKDAYS[:5]
Name = Annotated[str, Field(min_length=1, max_length=100)]


class Holidays(Strict):
    """Days on which nobody works: a country's, further ones, and exceptions (M5)."""

    country: str | None = Field(
        default=None,
        description="ISO code of the country whose public holidays hold, e.g. DE. Of the package `holidays`.",
    )
    subdivision: str | None = Field(default=None, description="Its state or province, e.g. BY; omitted: national ones.")
    days: dict[Date, Name] = Field(default={}, description="Further days off: date → name.")
    business: tuple[Date, ...] = Field(
        default=(), description="Days on which one works all the same: a public holiday, or a day of a weekend."
    )

    @model_validator(mode="after")
    def _known(self) -> "Holidays":
        if both := sorted(set(self.days) & set(self.business)):
            raise ValueError(f"{', '.join(both)} can't be a day off and a business day")
        if self.subdivision is not None and self.country is None:
            raise ValueError("a subdivision needs its country")
        if self.country is None:
            return self
        from holidays import list_supported_countries

        known = list_supported_countries(include_aliases=True)
        if self.country not in known:
            raise ValueError(f"unknown country {self.country!r}; {hint(self.country, list(known))}")
        if self.subdivision is not None and self.subdivision not in known[self.country]:
            valid = known[self.country]
            told = hint(self.subdivision, list(valid)) if valid else "it has none"
            raise ValueError(f"unknown subdivision {self.subdivision!r} of {self.country}; {told}")
        return self
