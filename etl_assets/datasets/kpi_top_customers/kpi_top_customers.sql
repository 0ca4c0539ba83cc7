with totals as (
    select
        customer_id,
        arg_max(segment, (order_date, order_id)) as segment,
        arg_max(nation, (order_date, order_id)) as nation,
        count(*) as orders,
        sum(net_amount_eur) as net_revenue_eur
    from gdp.gdp_orders
    group by customer_id
),

covered as (select count(distinct date_trunc('month', order_date)) as months from gdp.gdp_orders)

select
    p.start_date as month,
    row_number() over (order by t.net_revenue_eur desc, t.customer_id) as rank,
    t.customer_id,
    t.segment,
    t.nation,
    t.orders,
    t.net_revenue_eur::decimal(18, 2) as net_revenue_eur,
    c.months as months_covered
from totals as t
cross join covered as c
cross join calendar.period as p
qualify rank <= 10
