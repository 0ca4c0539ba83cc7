select date_trunc('month', order_date)::date as month, segment, currency, count(*) as lines,
    sum(amount)::decimal(18, 2) as amount, sum(amount_eur)::decimal(18, 2) as amount_eur
from gdp.sales group by all
