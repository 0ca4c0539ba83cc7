-- What observation saw at the sources, and what the reconcile sensor has asked for.

create table etl.source_looks (
    source        text primary key,
    looked_at     timestamptz,
    watermark     timestamptz,
    digests       jsonb not null default '{}',
    held_by       text,
    swept_at      timestamptz,
    problem       text,
    problem_since timestamptz,
    told_at       timestamptz,
    failed_at     timestamptz
);
comment on table etl.source_looks is 'One row per bronze table: what the last look at its source left.';
comment on column etl.source_looks.watermark is 'Every row with an older stamp had been committed, and was seen, by the last look.';
comment on column etl.source_looks.digests is 'Partition: digest of its rows past the watermark; another one is a change.';
comment on column etl.source_looks.held_by is 'What keeps the watermark back; null: nothing.';
comment on column etl.source_looks.swept_at is 'When all of its published partitions were last asked to be compared.';
comment on column etl.source_looks.failed_at is 'When the last look failed as a whole; null: it did not.';
comment on column etl.source_looks.told_at is 'When somebody was told of the problem.';

create table etl.marks (
    asset     text not null,
    partition text not null,
    seen      bigint not null,
    kind      text not null check (kind in ('changed', 'sweep', 'poll')),
    marked_at timestamptz not null default now(),
    primary key (asset, partition)
);
comment on table etl.marks is 'Partitions of bronze to look at. A capture with a greater epoch has looked.';
comment on column etl.marks.seen is 'Drawn from etl.epoch, in the lock of captures, after the source was read.';

create table etl.requests (
    asset        text not null,
    partition    text not null,
    state        text not null,
    tries        integer not null,
    run_key      text not null,
    requested_at timestamptz not null default now(),
    stuck_since  timestamptz,
    why          text not null default '',
    told_at      timestamptz,
    primary key (asset, partition)
);
comment on table etl.requests is 'Partitions that the reconcile sensor asked for and that are not fresh yet.';
comment on column etl.requests.state is 'Digest of what it would be made from: another one begins to count anew.';
