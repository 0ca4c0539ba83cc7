"""The IO manager of serving tables in Postgres."""

from etl_resources.io_managers.serving import ServingIOManager


class PostgresIOManager(ServingIOManager):
    """A batch becomes visible in one transaction of the target's database."""
