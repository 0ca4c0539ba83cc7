-- Run in the ERP, inside the captured snapshot; text is normalised as in silver.
select
    date_trunc('month', o.order_date)::date as month,
    trim(n.name) as nation,
    upper(trim(o.currency)) as currency,
    count(distinct o.order_id) as orders,
    count(*) as lines,
    sum(round(l.extended_price * (1 - l.discount), 2)) as net_revenue
from erp.orders as o
join erp.order_lines as l on l.order_id = o.order_id
left join erp.customers as c on c.customer_id = o.customer_id
left join erp.nations as n on n.nation_id = c.nation_id
where o.order_date >= %(start)s and o.order_date < %(end)s
group by 1, 2, 3
