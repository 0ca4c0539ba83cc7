-- Periods that somebody closed, and the notices of what was changed in them since.

create table etl.closings (
    attempt   text not null,
    asset     text not null,
    partition text not null,
    epoch     bigint not null,
    kind      text not null check (kind in ('closed', 'reopened')),
    by_whom   text not null,
    note      text not null default '',
    version   text not null,
    rows      bigint not null,
    tag       text,
    at        timestamptz not null default now(),
    tagged_at timestamptz,
    primary key (attempt, asset, partition)
);
create index closings_place on etl.closings (asset, partition, epoch);
comment on table etl.closings is 'One row per closing or reopening, written with the intent of the attempt that publishes it.';
comment on column etl.closings.version is 'Content of the partition when it was closed or reopened.';
comment on column etl.closings.tag is 'Iceberg tag of the closed figures; null of a reopening.';
comment on column etl.closings.tagged_at is 'When the tag was seen at the table; null: it is yet to be set.';

-- A closing is written with the intent of its attempt, so it lives and dies with it: it holds while the attempt is under
-- way, stays when that was published, and is void when it failed, was abandoned or lost to a newer epoch. A reopening
-- counts only when it was published. A row without its intent was put back from the evidence of a later publish.
create view etl.known_closings as
select c.*, coalesce(i.state, 'published') as state, p.snapshot_id
from etl.closings c
left join etl.intents i using (attempt)
left join etl.publishes p on p.asset = c.asset and p.partition = c.partition and p.attempt = c.attempt
where i.attempt is null
   or (i.state = 'open' and c.kind = 'closed')
   or (i.state = 'published' and p.attempt is not null);

create view etl.current_closings as
select k.* from (
    select distinct on (asset, partition) * from etl.known_closings order by asset, partition, epoch desc
) k
where k.kind = 'closed';

create table etl.notices (
    attempt   text not null,
    asset     text not null,
    partition text not null,
    sent_at   timestamptz not null default now(),
    primary key (attempt, asset, partition)
);
comment on table etl.notices is 'Restatements of closed periods that consumers were told of.';

create index intent_partitions_restatement on etl.intent_partitions (attempt, partition) where staged ? 'restatement';
create view etl.untold_restatements as
select p.asset, p.partition, p.epoch, p.attempt, p.run_id, p.published_at, i.staged -> 'restatement' as told
from etl.intent_partitions i
join etl.publishes p using (attempt, partition, epoch)
where i.staged ? 'restatement'
  and not exists (select from etl.notices n
                  where n.attempt = p.attempt and n.asset = p.asset and n.partition = p.partition);
comment on view etl.untold_restatements is 'Published changes of closed periods of which nobody was told yet.';
