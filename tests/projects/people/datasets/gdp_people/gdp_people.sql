select c.id, c.email, v.id as visitor, left(c.email, 4) as domain
from silver.customers c
left join silver.visitors v on v.email = c.email and v.ssn = c.ssn
