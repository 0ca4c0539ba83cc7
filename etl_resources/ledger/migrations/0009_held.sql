-- KPI partitions that are written and not published, because a threshold of theirs doesn't hold: they wait for a person.
create table etl.held (
    asset       text not null,
    partition   text not null,
    token       text not null,
    version     text not null,
    judged      text not null,
    epoch       bigint not null,
    attempt     text not null,
    run_id      text not null,
    rows        bigint not null,
    path        text not null,
    findings    jsonb not null,
    held_at     timestamptz not null default now(),
    accepted_by text,
    reason      text,
    accepted_at timestamptz,
    primary key (asset, partition, token, version, judged)
);
comment on table etl.held is 'An acceptance is of exactly this token, content and verdict: other inputs, another result or another difference is judged again.';
comment on column etl.held.judged is 'Digest of the checks that failed, with what they found.';
comment on column etl.held.path is 'The written file; it is kept while it waits.';
comment on column etl.held.findings is 'The checks that failed with their differences, and the rows that were rejected on the way.';

create view etl.waiting as
select h.* from (
    select distinct on (asset, partition) * from etl.held order by asset, partition, epoch desc
) h
left join etl.current_versions c using (asset, partition)
where c.epoch is null or h.epoch > c.epoch;
comment on view etl.waiting is 'Neither published nor overtaken by a publish. Accepted ones are about to be published.';
