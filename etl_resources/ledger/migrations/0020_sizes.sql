-- How big each attempt was, and by which engine: estimates are by size. What a backfill's runs were launched at: one that
-- was interrupted goes on at the same size.
alter table etl.intents add column size text;
alter table etl.intents add column engine text;
comment on column etl.intents.size is 'Entry of sizes in platform.yaml; null: by an earlier build, or nothing was computed.';
comment on column etl.intents.engine is 'duckdb or spark: what computed the rows.';
update etl.intents i set engine = 'spark'
where exists (select 1 from etl.intent_partitions p where p.attempt = i.attempt and p.staged ->> 'engine' like 'pyspark%');

alter table etl.backfills add column size text;
alter table etl.backfills add column raised_to text;
comment on column etl.backfills.size is 'Size that was asked for, of every dataset; null: nobody asked for one.';
comment on column etl.backfills.raised_to is 'Size up to which datasets are raised that allow it, to keep a freshness; null: none is.';
