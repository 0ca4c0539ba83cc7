"""The IO manager of targets in Elasticsearch."""

from etl_resources.io_managers.serving import ServingIOManager


class ElasticsearchIOManager(ServingIOManager):
    """A batch becomes visible by one swap of aliases, or by a commit record after the last document."""
