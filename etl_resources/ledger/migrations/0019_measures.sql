-- What an engine did for a partition, kept with the attempt: also of one that failed or was killed later.

alter table etl.intent_partitions add column measures jsonb;
comment on column etl.intent_partitions.measures is 'What Spark did for it, over all tries of the attempt (engines/spark_metrics); null: the embedded engine, or nothing was computed.';
