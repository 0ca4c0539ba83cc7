"""Schedules and off-peak windows as platform.yaml declares them; all times are of the calendar's time zone."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from etl_resources.manifest_calendar import Weekday
from etl_resources.manifest_types import Identifier, Strict, TimeOfDay

DAY_MAX = {"month": 31, "quarter": 92}
PERIODS_MAX = 120
BusinessDay = Annotated[int, Field(ge=-23, le=23)]


class When(Strict):
    """When a schedule runs: exactly one of business_day, every and cron."""

    business_day: BusinessDay | None = Field(
        default=None, description="Of each month: 3 is the third business day, -1 the last one."
    )
    every: Literal["day", "business_day", "week", "month", "quarter"] | None = Field(
        default=None, description="A plain calendar rhythm."
    )
    day: Weekday | int | None = Field(
        default=None,
        description="With `every: week` a weekday; with month or quarter its day: 2 the second, -1 the last. In a "
        "month that has not so many days, the last.",
    )
    at: TimeOfDay | None = Field(default=None, description="Time of day. Required without cron.")
    cron: str | None = Field(default=None, description="A cron expression, which tells the time as well.")

    @model_validator(mode="after")
    def _one(self) -> "When":
        given = [n for n in ("business_day", "every", "cron") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of business_day, every, cron; given: {', '.join(given) or 'none'}")
        if self.cron is not None and (self.at or self.day is not None):
            raise ValueError("cron tells day and time itself: take `at` and `day` away")
        if self.cron is None and self.at is None:
            raise ValueError('needs a time of day, e.g. at: "06:00"')
        if self.business_day == 0:
            raise ValueError("business_day counts from 1, or back from -1")
        self._prove_day()
        return self

    def _prove_day(self) -> None:
        most = DAY_MAX.get(self.every or "")
        if self.every == "week" and not isinstance(self.day, str):
            raise ValueError("every: week needs a weekday, e.g. day: mon")
        if most is not None and (not isinstance(self.day, int) or not 1 <= abs(self.day) <= most):
            raise ValueError(f"every: {self.every} needs a day from 1 to {most}, or back from -1")
        if self.every != "week" and most is None and self.day is not None:
            raise ValueError("day is for every: week, month or quarter")


class Schedule(Strict):
    """When which assets are materialized, for the newest complete periods."""

    name: Identifier = Field(description="Unique; the web UI shows it.")
    when: When = Field(description="When it runs.")
    selection: tuple[str, ...] = Field(
        default=("all",),
        min_length=1,
        description="What it runs, as `data-pipeline plan` takes it: names, +name, layers.",
    )
    periods: int = Field(
        default=1, ge=1, le=PERIODS_MAX, description="How many complete periods, back from the newest one."
    )
    off_peak: bool = Field(default=False, description="Whether it waits for the next window of `off_peak`.")
    enabled: bool = Field(default=False, description="Whether it runs unless somebody turns it off or on.")
    description: str | None = Field(default=None, min_length=1, description="What it is for, for the web UI.")


class OffPeak(Strict):
    """A window in which heavy runs may start. One that ends before it begins lasts over midnight."""

    days: tuple[Weekday, ...] | None = Field(
        default=None, min_length=1, description="Days on which it begins; omitted: every day."
    )
    from_: TimeOfDay = Field(alias="from", description="Time of day at which it begins.")
    to: TimeOfDay = Field(description="Time of day at which it ends, excluded; that of `from`: a whole day later.")
