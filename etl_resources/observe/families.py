"""Metric families: what each is called, what it means, and the one label that it has beside asset, layer and tenant.

Labels are bounded: assets, outcomes, rules of manifests. A partition, a run or a row is never a label.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

ASSET_LABELS = ("tenant", "layer", "asset")


@dataclass(frozen=True)
class Family:
    """One family. A counter is written without its suffix `_total`, as the client library wants it."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    label: str | None = None
    of_asset: bool = True

    @property
    def labels(self) -> tuple[str, ...]:
        """All of them, in order."""
        return (*(ASSET_LABELS if self.of_asset else ()), *((self.label,) if self.label else ()))

    @property
    def exposed(self) -> str:
        """Name as Prometheus sees it."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


class Sample(NamedTuple):
    """One value. asset: "" in a family that isn't of assets."""

    family: str
    asset: str
    label: str
    value: float


FAMILIES = (
    Family("etl_up", "gauge", "Whether the ledger answered: 1 or 0.", of_asset=False),
    Family("etl_scrape_failed", "gauge", "Whether a group of families could not be read: 1 or 0.", "group", False),
    Family("etl_scrape_duration_seconds", "gauge", "Seconds that reading the ledger took.", of_asset=False),
    Family("etl_build_info", "gauge", "1, with the version of the package.", "version", False),
    Family("etl_attempts", "counter", "Ended attempts: published, failed, abandoned (crashed, settled).", "outcome"),
    Family("etl_attempt_seconds", "counter", "Seconds of ended attempts, from intent to evidence.", "outcome"),
    Family("etl_attempts_open", "gauge", "Attempts under way: running, or crashed and not settled yet.", "state"),
    Family("etl_oldest_attempt_seconds", "gauge", "Age of the oldest running attempt."),
    Family("etl_publishes", "counter", "Published partitions: content changed, or found unchanged.", "content"),
    Family("etl_rows", "counter", "Rows of publishes: read, written, rejected, deduplicated, filtered.", "kind"),
    Family("etl_written_bytes", "counter", "Bytes of published files."),
    Family("etl_read_files", "counter", "Files that publishes read of their inputs."),
    Family("etl_read_bytes", "counter", "Bytes of the files that publishes read of their inputs."),
    Family("etl_skipped_bytes", "counter", "Bytes of the inputs that publishes did not have to read."),
    Family("etl_stage_seconds", "counter", "Seconds in which partitions were computed, written and audited."),
    Family("etl_spark_stages", "counter", "Stages that Spark ran, of all attempts: done, failed.", "outcome"),
    Family("etl_spark_tasks", "counter", "Attempts at Spark's tasks: done, failed, killed.", "outcome"),
    Family("etl_spark_speculative_tasks", "counter", "Of those, attempts that were made because another was slow."),
    Family("etl_spark_input_bytes", "counter", "Bytes that Spark's tasks read of their inputs."),
    Family("etl_spark_input_rows", "counter", "Rows that Spark's tasks read of their inputs."),
    Family("etl_spark_shuffle_bytes", "counter", "Bytes between Spark's stages: read, write.", "direction"),
    Family("etl_spark_spilled_bytes", "counter", "Bytes that Spark's tasks spilled, as in memory, on disk.", "place"),
    Family("etl_spark_executor_seconds", "counter", "Seconds of Spark's tasks: run, cpu of the JVM, its gc.", "kind"),
    Family("etl_spark_skew_ratio", "gauge", "Longest / median task of the worst stage, newest attempt on Spark."),
    Family("etl_spark_peak_task_memory_bytes", "gauge", "Memory of the largest task of the newest attempt on Spark."),
    Family("etl_last_publish_timestamp_seconds", "gauge", "When the asset was last published, in Unix time."),
    Family("etl_pruned_partitions", "counter", "Partitions that a step proved to be current and left as they are."),
    Family("etl_pruned_bytes", "counter", "Bytes that were not read for it."),
    Family("etl_dead_letters", "gauge", "Rejected rows of what is published, by rule; those set aside count.", "rule"),
    Family("etl_discarded_letters", "gauge", "Rejected rows that a person set aside."),
    Family("etl_held_partitions", "gauge", "KPI partitions that wait for a person's acceptance."),
    Family("etl_requested_partitions", "gauge", "Partitions that were asked for and are not fresh yet."),
    Family("etl_stuck_partitions", "gauge", "Of those, partitions that were tried as often as is allowed."),
    Family("etl_pinned_partitions", "gauge", "Partitions that a rollback pinned."),
    Family("etl_changed_partitions", "gauge", "Partitions of a source that were seen to change and not captured yet."),
    Family("etl_watermark_age_seconds", "gauge", "Age of the moment before which every change was seen."),
    Family("etl_source_unobserved", "gauge", "Whether the source can't be observed: 1 or 0."),
    Family("etl_source_look_timestamp_seconds", "gauge", "When the source was last looked at, in Unix time."),
    Family("etl_freshness_lag_seconds", "gauge", "How far the asset may be behind; +Inf: never published."),
    Family("etl_freshness_objective_seconds", "gauge", "How far its manifest allows it to be behind."),
    Family("etl_backfills", "counter", "Ended backfills: done, failed, superseded.", "outcome", False),
    Family("etl_backfills_open", "gauge", "Backfills that run or were interrupted.", of_asset=False),
)
BY_NAME = {f.name: f for f in FAMILIES}
