"""Projects that tests run instead of the shipped example, so that the example can grow without slowing them down."""

from pathlib import Path

SALES = Path(__file__).parent / "sales"
"""ERP orders and lines to one KPI in Postgres: every kind of step of a Postgres source, and nothing else."""
NATIONS = Path(__file__).parent / "nations"
"""Monthly orders beside a table without partitions, one joined to the other, both served."""
CUSTOMERS = Path(__file__).parent / "customers"
"""Files of a CRM, without partitions, to Postgres: the steps of a source that is delivered whole."""
RATES = Path(__file__).parent / "rates"
"""Exchange rates from an HTTP API, not partitioned, to silver."""
PEOPLE = Path(__file__).parent / "people"
"""Sensitive columns, from every kind of source and every format of files, to Postgres and Elasticsearch."""
HISTORY = Path(__file__).parent / "history"
"""Three kinds of sources, lookups, windows, every kind of target: what tests/histories plays changes on."""
