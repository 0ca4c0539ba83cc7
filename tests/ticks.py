"""Ticks of the reconcile sensor without a daemon, and the runs that they ask for, in this process."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import dagster as dg

from etl_assets.automation import reconcile_tick
from etl_assets.definitions import build_definitions
from tests.fault.driver import run_task
from tests.lake import QUIET, Child, Lake, instance
from tests.runs import Run, told_by

LAYERS = ("bronze", "silver", "gdp", "kpi", "postgres")


@dataclass(frozen=True)
class Asked:
    """One run that a tick asked for."""

    key: str
    assets: tuple[str, ...]
    first: str | None
    last: str | None
    request: dg.RunRequest = field(repr=False, compare=False)

    @property
    def layers(self) -> tuple[str, ...]:
        """Of its assets, in the order of the flow."""
        found = {a.partition("/")[0] for a in self.assets}
        return tuple(layer for layer in LAYERS if layer in found)


@dataclass
class Ticker:
    """One daemon: its cursor, and a clock that can be put forward."""

    lake: Lake
    cursor: str | None = None
    ahead: timedelta = timedelta(0)
    skipped: str = ""

    def tick(self) -> list[Asked]:
        """What the sensor asks for."""
        with self.lake.environment(), self._clock():
            definitions = build_definitions()
            sensor = definitions.get_sensor_def("reconcile")
            repository = definitions.get_repository_def()
            context = dg.build_sensor_context(instance(), cursor=self.cursor, repository_def=repository)
            done = sensor.evaluate_tick(context)
        self.cursor, self.skipped = done.cursor, done.skip_message or ""
        return [_asked(r) for r in done.run_requests or []]

    def run(self, asked: Asked, **changed: str) -> Run:
        """As the daemon would."""
        with self.lake.environment(**changed):
            job = build_definitions().resolve_job_def(asked.request.job_name or "all_layers")
            result = job.execute_in_process(
                instance=instance(),
                raise_on_error=False,
                run_config=QUIET,
                tags=dict(asked.request.tags),
                asset_selection=asked.request.asset_selection,
            )
            return told_by(result)

    def spawn(self, asked: Asked, points: Sequence[Mapping[str, Any]]) -> Child:
        """The same in a process that can be killed. `points`: see etl_resources/failpoints.py."""
        return self.lake.fork(run_task, {
            "first": asked.first, "last": asked.last, "points": [*points], "barrier": None, "run_id": None,
            "selection": [*asked.assets],
        })  # fmt: skip

    def settle(self, most: int = 8) -> list[Asked]:
        """Tick and run until nothing is asked for; all that was."""
        found: list[Asked] = []
        for _ in range(most):
            asked = self.tick()
            if not asked:
                return found
            found += asked
            for a in asked:
                done = self.run(a)
                assert done.success, done.error
        raise AssertionError(f"not settled after {most} ticks: {found[-3:]}")

    @contextmanager
    def _clock(self) -> Iterator[None]:
        def clock(_: object) -> datetime:
            return datetime.now(UTC) + self.ahead

        with mock.patch.object(reconcile_tick, "clock", clock):
            yield


def _asked(request: dg.RunRequest) -> Asked:
    tags = request.tags
    assets = tuple(key.to_user_string() for key in request.asset_selection or ())
    first, last = (tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    assert request.run_key
    return Asked(request.run_key, assets, first, last, request)
