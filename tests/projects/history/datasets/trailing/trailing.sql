select p.start_date as month, s.shop, count(*) as lines, sum(s.amount_eur)::decimal(18, 2) as amount_eur
from gdp.sales as s cross join calendar.period as p group by all
