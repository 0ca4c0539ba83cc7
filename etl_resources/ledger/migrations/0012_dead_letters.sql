-- Rejected rows are kept in Iceberg tables; here is only where they are, how many of what, and what people discarded.
drop view etl.current_dead_letters;
drop table etl.dead_letters;

create table etl.dead_letter_files (
    asset      text not null,
    partition  text not null,
    epoch      bigint not null,
    attempt    text not null,
    run_id     text not null,
    path       text not null,
    rows       bigint not null,
    version    text not null,
    written_at timestamptz not null default now(),
    primary key (asset, partition, epoch, attempt)
);
comment on table etl.dead_letter_files is 'The letters of one attempt at one partition. They are visible while that attempt is current.';
comment on column etl.dead_letter_files.version is 'Number and content hash of the letters, in any order.';

create table etl.dead_letter_reasons (
    asset       text not null,
    partition   text not null,
    epoch       bigint not null,
    attempt     text not null,
    rule        text not null,
    column_name text not null,
    reason      text not null,
    rows        bigint not null,
    first_seen  timestamptz not null,
    last_seen   timestamptz not null,
    sample      text not null,
    foreign key (asset, partition, epoch, attempt) references etl.dead_letter_files on delete cascade
);
create index dead_letter_reasons_file on etl.dead_letter_reasons (asset, partition, epoch, attempt);
comment on column etl.dead_letter_reasons.rows is 'A letter with several reasons counts in each of them.';
comment on column etl.dead_letter_reasons.sample is 'JSON text of one letter: key, value, source. No jsonb: a NUL in a value is no character of Postgres.';

create view etl.current_dead_letter_files as
select f.* from etl.dead_letter_files f join etl.current_versions c using (asset, partition, epoch, attempt);

create view etl.current_dead_letter_reasons as
select r.* from etl.dead_letter_reasons r join etl.current_versions c using (asset, partition, epoch, attempt);

-- Letters of what was judged and not published: the newest of a partition, unless something was published since.
create view etl.refused_dead_letter_files as
select distinct on (f.asset, f.partition) f.*
from etl.dead_letter_files f
join etl.intents i using (attempt)
left join etl.current_versions c on c.asset = f.asset and c.partition = f.partition
where i.state in ('failed', 'published') and (c.epoch is null or f.epoch > c.epoch)
order by f.asset, f.partition, f.epoch desc;

create table etl.discards (
    discard      text primary key,
    asset        text not null,
    discarded_by text not null,
    reason       text not null,
    discarded_at timestamptz not null default now(),
    letters      bigint not null,
    path         text not null
);
comment on column etl.discards.path is 'Parquet file of the letters, from which a lost ledger is rebuilt.';

create table etl.discarded_letters (
    asset   text not null,
    letter  text not null,
    discard text not null references etl.discards,
    primary key (asset, letter)
);

create table etl.replays (
    replay       text primary key,
    asset        text not null,
    partitions   text[] not null,
    requested_at timestamptz not null default now(),
    finished_at  timestamptz
);
comment on table etl.replays is 'Partitions that a replay recomputes with what depends on them: one that was killed is gone on with.';
