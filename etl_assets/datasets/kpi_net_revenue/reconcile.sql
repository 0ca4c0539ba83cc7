-- Run in the ERP, inside the captured snapshot; text is normalised as in silver.
select
    date_trunc('month', o.order_date)::date as month,
    upper(trim(o.currency)) as currency,
    count(*) as lines,
    sum(round(l.extended_price * (1 - l.discount), 2)) as net_revenue
from erp.orders as o
join erp.order_lines as l on l.order_id = o.order_id
where o.order_date >= %(start)s and o.order_date < %(end)s
group by 1, 2
