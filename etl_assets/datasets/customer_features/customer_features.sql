with known as (
    select customer_id, name, segment, nation, region
    from silver.customers
    qualify row_number() over (partition by customer_id order by valid_from desc) = 1
),

totals as (
    select
        customer_id,
        sum(orders)::bigint as orders,
        sum(net_revenue_eur) as net_revenue_eur,
        min(first_order_date) as first_order_date,
        max(last_order_date) as last_order_date
    from gdp.gdp_customer_months
    group by customer_id
)

select
    k.customer_id,
    k.name,
    k.segment,
    k.nation,
    k.region,
    coalesce(t.orders, 0) as orders,
    coalesce(t.net_revenue_eur, 0)::decimal(18, 2) as net_revenue_eur,
    t.first_order_date,
    t.last_order_date
from known as k
left join totals as t on t.customer_id = k.customer_id
