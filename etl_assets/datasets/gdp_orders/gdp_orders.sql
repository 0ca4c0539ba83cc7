select
    order_id,
    order_date,
    customer_id,
    segment,
    nation,
    region,
    currency,
    status,
    count(*) as lines,
    sum(net_amount)::decimal(18, 2) as net_amount,
    sum(net_amount_eur)::decimal(18, 2) as net_amount_eur,
    sum(tax_amount_eur)::decimal(18, 2) as tax_amount_eur
from gdp.gdp_sales
group by all
