"""Manifest to Dagster: sources, bronze, silver, gdp, kpi, serving. No data processing here."""
