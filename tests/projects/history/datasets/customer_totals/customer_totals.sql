with known as (
    select customer_id, segment from silver.customers
    qualify row_number() over (partition by customer_id order by valid_from desc) = 1
),

totals as (
    select customer_id, count(*) as orders, sum(amount_eur) as amount_eur from gdp.order_totals group by customer_id
)

select k.customer_id, k.segment, coalesce(t.orders, 0) as orders,
    coalesce(t.amount_eur, 0)::decimal(18, 2) as amount_eur
from known as k left join totals as t on t.customer_id = k.customer_id
