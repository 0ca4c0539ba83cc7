-- What metrics tell and nobody had written down: what was read of the inputs, what was pruned, since when what was asked
-- for is late, and which missed objectives somebody was told of.

alter table etl.publishes add column reads jsonb;
comment on column etl.publishes.reads is 'Files and bytes read of the inputs, of all that they had; null: a source, or an earlier build.';

create or replace view etl.current_versions as
select distinct on (asset, partition) * from etl.publishes order by asset, partition, epoch desc;

create table etl.prunes (
    asset      text not null,
    run_id     text not null,
    partitions text[] not null,
    epochs     bigint[] not null,
    pruned     integer not null,
    files      bigint not null,
    size_bytes bigint not null,
    pruned_at  timestamptz not null default now()
);
create index prunes_asset on etl.prunes (asset, pruned_at);
comment on table etl.prunes is 'One row per step that found partitions as they are published, and left them so.';
comment on column etl.prunes.epochs is 'Of each partition, the publish that it was found equal to: its token, inputs and fingerprint are the proof.';
comment on column etl.prunes.size_bytes is 'Of the files that were not read for it; of a source, what is published and was not captured again.';

alter table etl.requests add column late_since timestamptz;
comment on column etl.requests.late_since is 'When it was first asked for, however often since; null: by an earlier build.';

create table etl.late (
    asset   text primary key,
    since   timestamptz,
    told_at timestamptz not null default now()
);
comment on table etl.late is 'Assets behind their declared freshness of which somebody was told; a row goes when it is fresh again.';
comment on column etl.late.since is 'From when on it lacks something; null: it was never published.';
