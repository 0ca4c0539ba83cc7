"""Plans, prices, explains and runs backfills. How a partition is computed doesn't belong here: that is the graph's."""
