-- The ledger: what was intended, what was published from what, what was rejected.

-- An epoch orders attempts to publish. One sequence for all: it grows for every (asset, partition), which is all that
-- the fence needs, and it can order captures of one system.
create sequence etl.epoch;

create table etl.captures (
    epoch       bigint primary key,
    system      text not null,
    run_id      text not null,
    captured_at timestamptz not null default now()
);
comment on table etl.captures is 'One snapshot of a system of record; its epoch orders captures.';

create table etl.control_totals (
    epoch     bigint not null references etl.captures,
    control   text not null,
    partition text not null,
    totals    jsonb not null,
    primary key (epoch, control, partition)
);
comment on table etl.control_totals is 'Totals taken in the captured snapshot; KPIs are accepted against them.';

create table etl.intents (
    attempt    text primary key,
    asset      text not null,
    run_id     text not null,
    state      text not null default 'open' check (state in ('open', 'published', 'failed', 'abandoned')),
    reason     text,
    created_at timestamptz not null default now(),
    settled_at timestamptz
);
create index intents_open on etl.intents (asset) where state = 'open';

create table etl.intent_partitions (
    attempt     text not null references etl.intents,
    partition   text not null,
    epoch       bigint not null,
    token       text,
    inputs      jsonb not null,
    staged      jsonb,
    primary key (attempt, partition)
);
comment on column etl.intent_partitions.token is 'Null until a capture is hashed.';

create table etl.publishes (
    asset        text not null,
    partition    text not null,
    epoch        bigint not null,
    token        text not null,
    version      text not null,
    alias_of     bigint,
    rows         bigint not null,
    size_bytes   bigint not null,
    snapshot_id  bigint,
    inputs       jsonb not null,
    linked       text[] not null default '{}',
    fingerprint  text,
    counts       jsonb not null default '{}',
    stage_s      double precision,
    attempt      text not null,
    run_id       text not null,
    published_at timestamptz not null default now(),
    primary key (asset, partition, epoch)
);
create index publishes_token on etl.publishes (asset, partition, token);
comment on column etl.publishes.version is 'Row count and content hash of the partition.';
comment on column etl.publishes.alias_of is 'Epoch whose content this one equals: nothing was rewritten.';
comment on column etl.publishes.linked is 'Partitions that exchanged rows with this one in this capture.';
comment on column etl.publishes.fingerprint is 'Sources only: what observation saw inside the captured snapshot.';

create view etl.current_versions as
select distinct on (asset, partition) * from etl.publishes order by asset, partition, epoch desc;

create view etl.aliases as
select asset, partition, token, epoch, alias_of, version, published_at
from etl.publishes where alias_of is not null;

create table etl.dead_letters (
    id         bigint generated always as identity primary key,
    asset      text not null,
    partition  text not null,
    epoch      bigint not null,
    attempt    text not null,
    reason     text not null,
    key        jsonb not null,
    payload    jsonb not null,
    rejected_at timestamptz not null default now()
);
create index dead_letters_partition on etl.dead_letters (asset, partition, epoch);

create view etl.current_dead_letters as
select d.*
from etl.dead_letters d
join etl.current_versions c using (asset, partition)
where d.epoch = c.epoch and d.attempt = c.attempt;
comment on view etl.current_dead_letters is 'A dead letter is visible only while the attempt that wrote it is current.';
