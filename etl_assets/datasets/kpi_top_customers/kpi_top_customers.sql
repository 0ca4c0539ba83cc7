with totals as (
    select
        customer_id,
        arg_max(segment, (last_order_date, last_order_id)) as segment,
        arg_max(nation, (last_order_date, last_order_id)) as nation,
        sum(orders)::bigint as orders,
        sum(net_revenue_eur) as net_revenue_eur
    from gdp.gdp_customer_months
    group by customer_id
),

covered as (select count(distinct month) as months from gdp.gdp_customer_months)

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
