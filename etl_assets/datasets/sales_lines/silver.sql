select
    order_id,
    line_number,
    order_date,
    part_id,
    quantity,
    extended_price,
    discount,
    tax,
    trim(return_flag) as return_flag,
    ship_date,
    commit_date,
    trim(ship_mode) as ship_mode,
    updated_at
from bronze.sales_lines
