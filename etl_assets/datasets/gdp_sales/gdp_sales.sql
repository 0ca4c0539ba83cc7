-- A line without its order, its customer or a rate keeps nulls and is rejected by the contract: it never vanishes.
with lines as (
    select
        *,
        round(extended_price * (1 - discount), 2) as net_amount,
        round(round(extended_price * (1 - discount), 2) * tax, 2) as tax_amount
    from silver.sales_lines
),

priced as (
    select
        l.*,
        o.customer_id,
        o.currency,
        o.status,
        c.segment,
        c.nation,
        c.region,
        case when o.currency = 'EUR' then 1::decimal(18, 6) else r.rate end as eur_rate
    from lines as l
    left join silver.sales_orders as o on o.order_id = l.order_id
    left join lookup.customers as c on c.customer_id = o.customer_id and c.order_date = o.order_date
    left join lookup.currency_rates as r on r.currency = o.currency and r.order_date = o.order_date
),

-- Division of decimals is a double in DuckDB: euros are made in whole cents, from cents and millionths of the rate.
whole as (
    select
        *,
        (eur_rate * 1000000)::hugeint as rate_millionths,
        (extended_price * 100)::hugeint as gross_cents,
        (net_amount * 100)::hugeint as net_cents,
        (tax_amount * 100)::hugeint as tax_cents
    from priced
)

select
    order_id,
    line_number,
    order_date,
    customer_id,
    segment,
    nation,
    region,
    currency,
    status,
    part_id,
    ship_mode,
    ship_date,
    commit_date,
    quantity,
    extended_price::decimal(18, 2) as gross_amount,
    net_amount::decimal(18, 2) as net_amount,
    tax_amount::decimal(18, 2) as tax_amount,
    eur_rate,
    (((gross_cents * 2000000 + rate_millionths) // (rate_millionths * 2))::decimal(20, 0) * 0.01)::decimal(18, 2)
        as gross_amount_eur,
    (((net_cents * 2000000 + rate_millionths) // (rate_millionths * 2))::decimal(20, 0) * 0.01)::decimal(18, 2)
        as net_amount_eur,
    (((tax_cents * 2000000 + rate_millionths) // (rate_millionths * 2))::decimal(20, 0) * 0.01)::decimal(18, 2)
        as tax_amount_eur
from whole
