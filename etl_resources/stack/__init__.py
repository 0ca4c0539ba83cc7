"""Embedded Postgres, S3 and Dagster servers, and their life cycle."""
