select l.order_id, l.line_number, l.order_date, o.customer_id, c.segment, o.currency, o.shop, l.amount,
    round(l.amount::decimal(15, 2) * r.rate, 2)::decimal(18, 2) as amount_eur
from silver.lines as l
left join silver.orders as o on o.order_id = l.order_id
left join lookup.customers as c on c.customer_id = o.customer_id and c.order_date = o.order_date
left join lookup.rates as r on r.currency = o.currency and r.order_date = o.order_date
