select n.nation_id, n.name as nation, count(*) as orders, sum(o.total_price)::decimal(18, 2) as total_price
from silver.orders as o join silver.nations as n on n.nation_id = o.nation_id
group by all
