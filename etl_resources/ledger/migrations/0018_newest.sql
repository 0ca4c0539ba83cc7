-- What is newest of every partition: plans and ticks read as much as there are partitions, however often each was
-- published or tried. Triggers keep it, so that it holds whoever writes: a run, recovery, a restored backup, a person.
-- Rows are taken in the order of their keys: writers of the same partitions wait for each other, but never in a circle.

create index publishes_content on etl.publishes (asset, partition, version);

create table etl.newest_publishes (
    asset      text not null,
    partition  text not null,
    epoch      bigint not null,
    size_bytes bigint not null,
    primary key (asset, partition)
);
comment on table etl.newest_publishes is 'The current publish of each partition: that with the greatest epoch.';
comment on column etl.newest_publishes.size_bytes is 'Of its content: a publish that found it unchanged wrote a marker of a few bytes.';

create table etl.newest_intents (
    asset     text not null,
    partition text not null,
    epoch     bigint not null,
    attempt   text not null,
    primary key (asset, partition)
);
comment on table etl.newest_intents is 'The newest attempt at each partition, whatever came of it.';

create function etl.content_size(of_asset text, of_partition text, of_version text, alias_of bigint, own bigint)
returns bigint language sql stable as $$
    select case when alias_of is null then own else (
        select max(size_bytes) from etl.publishes
        where asset = of_asset and partition = of_partition and version = of_version
    ) end
$$;

create function etl.newest_publish() returns trigger language plpgsql as $$
begin
    insert into etl.newest_publishes as n (asset, partition, epoch, size_bytes)
    select asset, partition, epoch, etl.content_size(asset, partition, version, alias_of, size_bytes)
    from (select distinct on (asset, partition) * from added order by asset, partition, epoch desc) a
    order by asset, partition
    on conflict (asset, partition) do update set epoch = excluded.epoch, size_bytes = excluded.size_bytes
    where excluded.epoch > n.epoch;
    return null;
end $$;
create trigger newest after insert on etl.publishes referencing new table as added
    for each statement execute function etl.newest_publish();

create function etl.newest_intent() returns trigger language plpgsql as $$
begin
    insert into etl.newest_intents as n (asset, partition, epoch, attempt)
    select distinct on (asset, partition) asset, partition, epoch, attempt
    from added join etl.intents using (attempt) order by asset, partition, epoch desc, created_at desc
    on conflict (asset, partition) do update set epoch = excluded.epoch, attempt = excluded.attempt
    where excluded.epoch >= n.epoch;
    return null;
end $$;
create trigger newest after insert on etl.intent_partitions referencing new table as added
    for each statement execute function etl.newest_intent();

create function etl.find_newest() returns void language sql as $$
    delete from etl.newest_publishes n where not exists (
        select from etl.publishes p where p.asset = n.asset and p.partition = n.partition and p.epoch = n.epoch);
    insert into etl.newest_publishes
    select asset, partition, epoch, etl.content_size(asset, partition, version, alias_of, size_bytes)
    from (select distinct on (asset, partition) * from etl.publishes order by asset, partition, epoch desc) p
    on conflict do nothing;
    delete from etl.newest_intents n where not exists (
        select from etl.intent_partitions p
        where p.attempt = n.attempt and p.partition = n.partition and p.epoch = n.epoch);
    insert into etl.newest_intents
    select distinct on (asset, partition) asset, partition, epoch, attempt
    from etl.intent_partitions join etl.intents using (attempt)
    order by asset, partition, epoch desc, created_at desc on conflict do nothing;
$$;
select etl.find_newest();

-- The ledger only grows. When somebody loses rows of it, the newest of those that are left count.
create function etl.rows_lost() returns trigger language plpgsql as $$
begin
    perform etl.find_newest();
    return null;
end $$;
create trigger lost after delete on etl.publishes for each statement execute function etl.rows_lost();
create trigger lost after delete on etl.intent_partitions for each statement execute function etl.rows_lost();
create trigger emptied after truncate on etl.publishes for each statement execute function etl.rows_lost();
create trigger emptied after truncate on etl.intent_partitions for each statement execute function etl.rows_lost();

create or replace view etl.current_versions as
select p.* from etl.newest_publishes n join etl.publishes p using (asset, partition, epoch);

-- What else plans and ticks ask.
create index intents_published on etl.intents (asset, settled_at) where state = 'published';
create index control_totals_newest on etl.control_totals (control, partition, epoch);
