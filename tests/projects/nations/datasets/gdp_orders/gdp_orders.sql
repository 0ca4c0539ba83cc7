select o.order_id, o.order_date, n.name as nation, o.total_price
from silver.orders as o left join silver.nations as n on n.nation_id = o.nation_id
