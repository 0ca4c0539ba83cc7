-- Backfills that were started from a plan: what was planned, what it was estimated at, and what came of it. A row without
-- finished_at is of a backfill that runs (its process holds the lock `backfill:<id>`, or Dagster's daemon runs it) or was
-- interrupted; nothing has to be settled then: the same command goes on.
create table etl.backfills (
    backfill    text primary key,
    plan_hash   text not null,
    selection   text[] not null,
    first       text not null,
    last        text not null,
    how         text not null check (how in ('daemon', 'process')),
    planned     jsonb,
    estimate    jsonb not null,
    actual      jsonb,
    started_at  timestamptz not null default now(),
    finished_at timestamptz
);
create index backfills_hash on etl.backfills (plan_hash) where finished_at is null;
comment on column etl.backfills.planned is 'Asset → partition → the input versions that it was planned on; null when it ended.';
comment on column etl.backfills.estimate is 'Seconds of all runs, with low and high, partitions and runs.';
comment on column etl.backfills.actual is 'Seconds of all runs, of them in attempts, cost, and partitions by what came of them.';

-- Rows rarely move: plans and steps find the publishes of those that did.
create index publishes_linked on etl.publishes (asset) where cardinality(linked) > 0;

-- Which parts a logic version consisted of: `why` tells which of them changed. Remembered for people, decides nothing.
create table etl.logic_versions (
    asset         text not null,
    logic_version text not null,
    parts         jsonb not null,
    seen_at       timestamptz not null default now(),
    primary key (asset, logic_version)
);
comment on column etl.logic_versions.parts is 'Name of a part (sql, columns, table …) → its digest.';
