select order_id, order_date, customer_id, count(*) as lines, sum(amount_eur)::decimal(18, 2) as amount_eur
from gdp.sales group by all
