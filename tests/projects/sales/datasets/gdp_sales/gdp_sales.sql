-- A line without its order keeps nulls and is rejected by the contract: it never vanishes in the join.
select
    l.order_id,
    l.line_number,
    l.order_date,
    o.customer_id,
    o.nation,
    o.currency,
    o.status,
    l.part_id,
    l.quantity,
    l.extended_price::decimal(18, 2) as gross_amount,
    round(l.extended_price * (1 - l.discount), 2)::decimal(18, 2) as net_amount,
    round(round(l.extended_price * (1 - l.discount), 2) * l.tax, 2)::decimal(18, 2) as tax_amount
from silver.sales_lines as l
left join silver.sales_orders as o on o.order_id = l.order_id
