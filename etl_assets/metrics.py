"""The metrics of one project: the ledger's, and how far each asset is behind. Read when asked, kept briefly."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from etl_assets.freshness import read_lags
from etl_assets.project import Project
from etl_resources.classify import classify
from etl_resources.errors import TransientError
from etl_resources.ledger.connection import connect, typed_errors
from etl_resources.observe.families import FAMILIES, Family, Sample
from etl_resources.observe.ledger_metrics import GROUPS, read_group
from etl_resources.settings import Settings

if TYPE_CHECKING:
    import psycopg
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

CACHE_S = 5.0
"""Scrapes within it get the same samples: two scrapers don't read twice."""
CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 10
"""Of one group; a group that takes longer is left out, and told by etl_scrape_failed."""
FRESHNESS = "freshness"


class LedgerCollector:
    """A collector of prometheus_client. settings: found anew at each read, for servers that moved meanwhile."""

    def __init__(
        self,
        project: Project,
        settings: Callable[[], Settings],
        log: Callable[[str], None],
        *,
        cache_s: float = CACHE_S,
    ) -> None:
        self._project, self._settings, self._log, self._cache_s = project, settings, log, cache_s
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._samples: list[Sample] = []
        self._told: frozenset[str] = frozenset()
        self._tenants = {node.name: node.dataset.tenant for node in project.nodes}

    def registry(self) -> "CollectorRegistry":
        """With this collector alone."""
        from prometheus_client import CollectorRegistry

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return registry

    def collect(self) -> "Iterator[Metric]":
        """All families that have a sample."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        by_family: dict[str, list[Sample]] = {}
        for sample in self.samples():
            by_family.setdefault(sample.family, []).append(sample)
        for family in FAMILIES:
            if family.name in by_family:
                make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
                metric = make(family.name, family.help, labels=family.labels)
                for sample in by_family[family.name]:
                    metric.add_metric(self._labels(family, sample), sample.value)
                yield metric

    def samples(self) -> list[Sample]:
        """Those of now, or of some seconds ago. Never raises for a ledger that isn't there: etl_up is 0 then."""
        with self._lock:
            if time.monotonic() - self._read_at > self._cache_s:
                self._samples = [Sample("etl_build_info", "", version("data-pipeline"), 1.0), *self._read()]
                self._read_at = time.monotonic()
            return self._samples

    def _labels(self, family: Family, sample: Sample) -> list[str]:
        of_asset = [self._tenants.get(sample.asset, ""), sample.asset.partition(".")[0], sample.asset]
        return [*(of_asset if family.of_asset else ()), *((sample.label,) if family.label else ())]

    def _read(self) -> list[Sample]:
        started = time.monotonic()
        try:
            settings = self._settings()
            dsn = settings.require_postgres()
            options = f"-c statement_timeout={STATEMENT_TIMEOUT_S}s"
            connection = connect(dsn, setting="ETL_POSTGRES_DSN", timeout_s=CONNECT_TIMEOUT_S, options=options)
            with connection:
                found, failed = self._groups(connection)
        except Exception as e:
            known = classify(e)
            if known is None:
                raise
            self._tell({str(known)})
            return [Sample("etl_up", "", "", 0.0)]
        self._tell({f"{group}: {why}" for group, why in failed.items()})
        found += [Sample("etl_scrape_failed", "", group, float(group in failed)) for group in (*GROUPS, FRESHNESS)]
        found.append(Sample("etl_scrape_duration_seconds", "", "", time.monotonic() - started))
        return [*found, Sample("etl_up", "", "", 1.0)]

    def _groups(self, connection: "psycopg.Connection[Any]") -> tuple[list[Sample], Mapping[str, str]]:
        """(samples, group → why it could not be read). Raises when nothing could be."""
        import psycopg

        exists = connection.execute("select to_regclass('etl.publishes')").fetchone()
        if exists is None or exists[0] is None:
            raise TransientError("There is no ledger in the database of ETL_POSTGRES_DSN yet: the first run makes it.")
        found: list[Sample] = []
        failed: dict[str, str] = {}
        for group in (*GROUPS, FRESHNESS):
            read = self._freshness(connection) if group == FRESHNESS else read_group(connection, group)
            try:
                found += list(read)
            except psycopg.Error as e:
                failed[group] = str(e).strip().splitlines()[0]
                if connection.closed:
                    with typed_errors("The ledger"):
                        raise
        return found, failed

    def _freshness(self, connection: "psycopg.Connection[Any]") -> Iterable[Sample]:
        row = connection.execute("select clock_timestamp()").fetchone()
        assert row is not None  # noqa: S101  (a clock always answers)
        for lag in read_lags(self._project, connection, row[0]):
            yield Sample("etl_freshness_lag_seconds", lag.asset, "", lag.lag_s)
            if lag.objective_s is not None:
                yield Sample("etl_freshness_objective_seconds", lag.asset, "", lag.objective_s)

    def _tell(self, problems: Iterable[str]) -> None:
        """Each problem once, and when it is over: a scrape every few seconds must not fill a log."""
        now = frozenset(problems)
        for problem in sorted(now - self._told):
            self._log(problem)
        if self._told and not now:
            self._log("the ledger can be read again")
        self._told = now
