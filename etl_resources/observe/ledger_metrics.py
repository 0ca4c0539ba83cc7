"""What the ledger knows, as samples: one statement per group of families, each with a time limit; nothing is changed.

Crashed runs are told from the ledger, not by the runs: an attempt that is open, and whose session is gone.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from etl_resources.ledger.liveness import DEAD
from etl_resources.observe.families import Sample

if TYPE_CHECKING:
    import psycopg

_ATTEMPTS = """
select v.* from (
    select asset, state, count(*) as n, sum(extract(epoch from settled_at - created_at)) as s
    from etl.intents where state <> 'open' group by 1, 2
) i cross join lateral (values
    ('etl_attempts', asset, state, n::float8), ('etl_attempt_seconds', asset, state, s::float8)
) v
"""
_OPEN = f"""
with opened as materialized (select attempt, asset, created_at from etl.intents where state = 'open'),
told as (select asset, created_at, {DEAD} as dead from opened)
select 'etl_attempts_open', asset, case when dead then 'crashed' else 'running' end, count(*)::float8
from told group by 1, 2, 3
union all
select 'etl_oldest_attempt_seconds', asset, '', extract(epoch from clock_timestamp() - min(created_at))::float8
from told where not dead group by 1, 2
"""
_PUBLISHES = """
select v.* from (
    select asset, count(*) filter (where alias_of is null) as changed, count(alias_of) as unchanged,
           sum((counts ->> 'read')::bigint) as read, sum((counts ->> 'written')::bigint) as written,
           sum((counts ->> 'rejected')::bigint) as rejected, sum((counts ->> 'deduplicated')::bigint) as deduplicated,
           sum((counts ->> 'filtered')::bigint) as filtered, sum(size_bytes) as size, sum(stage_s) as stage,
           sum((reads ->> 'files')::bigint) as files, sum((reads ->> 'size_bytes')::bigint) as bytes,
           sum((reads ->> 'bytes_total')::bigint - (reads ->> 'size_bytes')::bigint) as skipped,
           extract(epoch from max(published_at)) as newest
    from etl.publishes group by asset
) p cross join lateral (values
    ('etl_publishes', asset, 'changed', changed::float8), ('etl_publishes', asset, 'unchanged', unchanged::float8),
    ('etl_rows', asset, 'read', read::float8), ('etl_rows', asset, 'written', written::float8),
    ('etl_rows', asset, 'rejected', rejected::float8), ('etl_rows', asset, 'deduplicated', deduplicated::float8),
    ('etl_rows', asset, 'filtered', filtered::float8), ('etl_written_bytes', asset, '', size::float8),
    ('etl_stage_seconds', asset, '', stage), ('etl_read_files', asset, '', files::float8),
    ('etl_read_bytes', asset, '', bytes::float8), ('etl_skipped_bytes', asset, '', skipped::float8),
    ('etl_last_publish_timestamp_seconds', asset, '', newest::float8)
) v
"""
_SPARK = """
with told as (
    select i.asset, i.created_at, m.* from etl.intent_partitions p join etl.intents i using (attempt)
    cross join lateral jsonb_to_record(p.measures) as m(
        stages bigint, stages_failed bigint, tasks bigint, tasks_failed bigint, tasks_killed bigint,
        tasks_speculative bigint, input_bytes bigint, input_rows bigint, shuffle_read_bytes bigint,
        shuffle_write_bytes bigint, memory_spilled_bytes bigint, disk_spilled_bytes bigint, executor_run_s float8,
        executor_cpu_s float8, gc_s float8, skew float8, peak_task_memory_bytes float8
    )
    where p.measures is not null
), sums as (
    select asset, sum(stages) as stages, sum(stages_failed) as stages_failed, sum(tasks) as tasks,
           sum(tasks_failed) as failed, sum(tasks_killed) as killed, sum(tasks_speculative) as speculative,
           sum(input_bytes) as input_bytes, sum(input_rows) as input_rows, sum(shuffle_read_bytes) as read,
           sum(shuffle_write_bytes) as written, sum(memory_spilled_bytes) as memory, sum(disk_spilled_bytes) as disk,
           sum(executor_run_s) as run, sum(executor_cpu_s) as cpu, sum(gc_s) as gc
    from told group by asset
), newest as (
    select asset, max(skew) as skew, max(peak_task_memory_bytes) as peak
    from (select *, rank() over (partition by asset order by created_at desc) as nth from told) t
    where nth = 1 group by asset
)
select v.* from sums join newest using (asset) cross join lateral (values
    ('etl_spark_stages', asset, 'done', (stages - stages_failed)::float8),
    ('etl_spark_stages', asset, 'failed', stages_failed::float8),
    ('etl_spark_tasks', asset, 'done', (tasks - failed - killed)::float8),
    ('etl_spark_tasks', asset, 'failed', failed::float8), ('etl_spark_tasks', asset, 'killed', killed::float8),
    ('etl_spark_speculative_tasks', asset, '', speculative::float8),
    ('etl_spark_input_bytes', asset, '', input_bytes::float8), ('etl_spark_input_rows', asset, '', input_rows::float8),
    ('etl_spark_shuffle_bytes', asset, 'read', read::float8),
    ('etl_spark_shuffle_bytes', asset, 'write', written::float8),
    ('etl_spark_spilled_bytes', asset, 'memory', memory::float8),
    ('etl_spark_spilled_bytes', asset, 'disk', disk::float8),
    ('etl_spark_executor_seconds', asset, 'run', run), ('etl_spark_executor_seconds', asset, 'cpu', cpu),
    ('etl_spark_executor_seconds', asset, 'gc', gc), ('etl_spark_skew_ratio', asset, '', skew),
    ('etl_spark_peak_task_memory_bytes', asset, '', peak)
) v
"""
_PRUNED = """
select v.* from (select asset, sum(pruned) as n, sum(size_bytes) as size from etl.prunes group by 1) p
cross join lateral (values
    ('etl_pruned_partitions', asset, '', n::float8), ('etl_pruned_bytes', asset, '', size::float8)
) v
"""
_LETTERS = """
select 'etl_dead_letters', asset, rule, sum(rows)::float8 from etl.current_dead_letter_reasons group by 2, 3
union all select 'etl_discarded_letters', asset, '', count(*)::float8 from etl.discarded_letters group by 2
"""
_WAITING = """
select 'etl_held_partitions', asset, '', count(*)::float8 from etl.waiting where accepted_at is null group by 2
union all select 'etl_pinned_partitions', asset, '', count(*)::float8 from etl.current_pins group by 2
union all select 'etl_requested_partitions', asset, '', count(*)::float8 from etl.requests group by 2
union all select 'etl_stuck_partitions', asset, '', count(stuck_since)::float8 from etl.requests group by 2
union all select 'etl_changed_partitions', asset, '', count(*)::float8 from etl.marks where kind = 'changed' group by 2
"""
_SOURCES = """
select v.* from (
    select source, extract(epoch from clock_timestamp() - watermark)::float8 as age,
           extract(epoch from looked_at)::float8 as looked, (problem is not null)::int::float8 as problem
    from etl.source_looks
) s cross join lateral (values
    ('etl_watermark_age_seconds', source, '', age), ('etl_source_look_timestamp_seconds', source, '', looked),
    ('etl_source_unobserved', source, '', problem)
) v
"""
_BACKFILLS = """
select 'etl_backfills', '', case when actual ? 'superseded_by' then 'superseded'
       when coalesce((actual ->> 'failed')::int, 0) + coalesce((actual ->> 'not done')::int, 0) > 0 then 'failed'
       else 'done' end, count(*)::float8
from etl.backfills where finished_at is not null group by 3
union all select 'etl_backfills_open', '', '', count(*)::float8 from etl.backfills where finished_at is null
"""
GROUPS: Mapping[str, str] = {
    "attempts": _ATTEMPTS,
    "open_attempts": _OPEN,
    "publishes": _PUBLISHES,
    "spark": _SPARK,
    "pruned": _PRUNED,
    "dead_letters": _LETTERS,
    "waiting": _WAITING,
    "sources": _SOURCES,
    "backfills": _BACKFILLS,
}


def read_group(connection: "psycopg.Connection[Any]", group: str) -> Iterator[Sample]:
    """Samples of one group; what has no value (no watermark, a source's reads) is left out. Raises psycopg.Error."""
    for family, asset, label, value in connection.execute(GROUPS[group].encode()).fetchall():
        if value is not None:
            yield Sample(family, asset, label, float(value))
