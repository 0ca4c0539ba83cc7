select nation_id, name as nation from silver.nations
