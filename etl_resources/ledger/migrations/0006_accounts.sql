-- What became of the rows that a publish read: which input they are of, how many were found of each, which stated rule left
-- them out, which keys found nothing, which sums were conserved. Null for publishes of earlier builds.
alter table etl.publishes add column account jsonb;

create or replace view etl.current_versions as
select distinct on (asset, partition) * from etl.publishes order by asset, partition, epoch desc;
