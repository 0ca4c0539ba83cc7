with totals as (
    select customer_id, sum(orders)::bigint as orders, sum(net_revenue_eur) as net_revenue_eur
    from gdp.gdp_customer_months
    group by customer_id
),

best as (
    select
        customer_id,
        orders,
        net_revenue_eur,
        row_number() over (order by net_revenue_eur desc, customer_id) as rank
    from totals
    qualify rank <= 10
),

latest as (
    select customer_id, segment, nation
    from gdp.gdp_customer_months
    where customer_id in (select customer_id from best)
    qualify row_number() over (partition by customer_id order by last_order_date desc, last_order_id desc) = 1
),

covered as (select count(distinct month) as months from gdp.gdp_customer_months)

select
    p.start_date as month,
    b.rank,
    b.customer_id,
    l.segment,
    l.nation,
    b.orders,
    b.net_revenue_eur::decimal(18, 2) as net_revenue_eur,
    c.months as months_covered
from best as b
inner join latest as l on l.customer_id = b.customer_id
cross join covered as c
cross join calendar.period as p
