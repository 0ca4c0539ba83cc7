-- Division of integers is a double in DuckDB: the share is made in whole ten-thousandths.
with counted as (
    select
        date_trunc('month', order_date)::date as month,
        coalesce(ship_mode, 'unknown') as ship_mode,
        count(*) as lines,
        count(*) filter (ship_date <= commit_date) as on_time_lines
    from gdp.gdp_sales
    group by all
)

select
    month,
    ship_mode,
    lines,
    on_time_lines,
    (((on_time_lines * 20000 + lines) // (lines * 2))::decimal(18, 0) * 0.0001)::decimal(5, 4) as on_time_share
from counted
