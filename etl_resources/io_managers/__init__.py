"""One Dagster IO manager per sink: publish what was staged, load what was published."""
