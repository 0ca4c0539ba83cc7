select
    order_id,
    customer_id,
    trim(nation) as nation,
    order_date,
    upper(trim(status)) as status,
    trim(regexp_replace(priority, '^[0-9]-', '')) as priority,
    upper(trim(currency)) as currency,
    total_price,
    updated_at
from bronze.sales_orders
