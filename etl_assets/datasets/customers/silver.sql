select
    customer_id,
    valid_from,
    trim(name) as name,
    upper(trim(segment)) as segment,
    upper(trim(nation)) as nation,
    upper(trim(region)) as region
from bronze.customers
