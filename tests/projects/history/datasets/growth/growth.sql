select p.start_date as month, k.segment,
    coalesce(sum(k.amount_eur) filter (k.month = p.start_date), 0)::decimal(18, 2) as amount_eur,
    (coalesce(sum(k.amount_eur) filter (k.month = p.start_date), 0)
        - coalesce(sum(k.amount_eur) filter (k.month < p.start_date), 0))::decimal(18, 2) as change_eur
from kpi.revenue as k cross join calendar.period as p group by all
