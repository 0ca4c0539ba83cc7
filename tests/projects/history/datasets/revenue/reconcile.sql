select date_trunc('month', o.order_date)::date as month, o.currency, count(*) as lines, sum(l.amount) as amount
from erp.orders as o join erp.lines as l on l.order_id = o.order_id
where o.order_date >= %(start)s and o.order_date < %(end)s group by 1, 2
