-- Version numbers of tables, and partitions that a rollback pinned.

create table etl.versions (
    asset        text not null,
    number       bigint not null,
    snapshot_id  bigint not null,
    attempt      text not null references etl.intents,
    published_at timestamptz not null default now(),
    primary key (asset, number)
);
comment on table etl.versions is 'One row per publish of a table; the number was decided inside its compare-and-swap.';

create table etl.pins (
    attempt     text not null references etl.intents,
    asset       text not null,
    partition   text not null,
    epoch       bigint not null,
    number      bigint not null,
    reason      text not null default '',
    pinned_at   timestamptz not null default now(),
    unpinned_at timestamptz,
    primary key (attempt, partition)
);
create index pins_asset on etl.pins (asset) where unpinned_at is null;
comment on column etl.pins.number is 'Version of the table whose content the partition was set back to.';

-- A pin is written with the intent of its rollback, so it lives and dies with it: it holds while the rollback is under
-- way, stays when that was published, and is void when the rollback failed, was abandoned or lost to a newer epoch.
create view etl.current_pins as
select distinct on (p.asset, p.partition)
       p.asset, p.partition, p.number, p.reason, p.epoch, p.attempt, i.run_id, p.pinned_at, i.state
from etl.pins p
join etl.intents i using (attempt)
where p.unpinned_at is null
  and (i.state = 'open'
       or (i.state = 'published'
           and exists (select from etl.publishes x
                       where x.asset = p.asset and x.partition = p.partition and x.attempt = p.attempt)))
order by p.asset, p.partition, p.epoch desc;
