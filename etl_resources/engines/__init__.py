"""Run a SQL transform at a size."""
