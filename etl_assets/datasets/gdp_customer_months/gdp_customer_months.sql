select
    p.start_date as month,
    o.customer_id,
    count(*) as orders,
    sum(o.net_amount_eur)::decimal(18, 2) as net_revenue_eur,
    min(o.order_date) as first_order_date,
    max(o.order_date) as last_order_date,
    arg_max(o.order_id, (o.order_date, o.order_id)) as last_order_id,
    arg_max(o.segment, (o.order_date, o.order_id)) as segment,
    arg_max(o.nation, (o.order_date, o.order_id)) as nation
from gdp.gdp_orders as o
cross join calendar.period as p
group by p.start_date, o.customer_id
