"""What each dataset of a run runs at: its size, the engine that computes it, and that engine's settings."""

from collections.abc import Iterable
from dataclasses import dataclass

from etl_assets.project import Project, ServingNode, TableNode
from etl_resources.errors import SettingsError
from etl_resources.manifest_http import HttpApiSource
from etl_resources.manifest_runner import Engine, GlueSize
from etl_resources.manifest_sizes import DuckdbSize, Size, SparkSize
from etl_resources.sizes import MANIFESTS, SizeChoice


@dataclass(frozen=True)
class RunSizes:
    """Of one run, by what was chosen for it; a table's hints are in its settings."""

    project: Project
    choice: SizeChoice = MANIFESTS
    by_glue: bool = False
    """Whether jobs in AWS Glue compute what Spark would."""

    def name(self, node: TableNode | ServingNode) -> str:
        """Entry of `sizes` in platform.yaml."""
        return self.choice.of(self.project.platform, node.dataset.runner)

    def duckdb(self, node: TableNode) -> DuckdbSize:
        """Threads and memory of the embedded engine."""
        return self._size(node).duckdb

    def spark(self, node: TableNode) -> SparkSize | None:
        """What its size means to Spark; None: the embedded engine computes it, as it does all adjustments.

        The dataset's own hint stands in for the size's parts of a shuffle. A source is read by executors where the size
        has `source_readers`: not by jobs in Glue, and not an API, whose pages come one after the other.
        """
        size, hint = self._size(node).spark, node.dataset.runner.shuffle_partition_hint
        if size is None or node.adjusted:
            return None
        if node.layer == "bronze":
            read = size.source_readers is not None and not self.by_glue
            return size if read and not isinstance(node.dataset.source, HttpApiSource) else None
        return size if hint is None else size.model_copy(update={"shuffle_partitions": hint})

    def glue(self, node: TableNode) -> GlueSize:
        """Workers in AWS Glue: of the category of its input, else of its size. Raises SettingsError without both."""
        found = self._glue(node)
        if found is None:
            raise SettingsError(
                f"ETL_SPARK_MASTER is glue, and nothing says with how many workers {node.dataset.dataset} is computed: "
                f"give the size {self.name(node)} in platform.yaml a `glue`, or the dataset a `size_category`."
            )
        return found

    def engine(self, node: TableNode | ServingNode) -> Engine:
        """That computes it."""
        if not isinstance(node, TableNode) or self.spark(node) is None:
            return "duckdb"
        return "glue" if self.by_glue else "spark"

    def told(self, assets: Iterable[str]) -> list[tuple[str, Engine]]:
        """(size, engine) of each of these tables and targets."""
        nodes = {node.name: node for node in self.project.nodes}
        return [(self.name(nodes[a]), self.engine(nodes[a])) for a in assets]

    def workers(self, asset: str) -> int | None:
        """Workers that are paid at once: of Glue those of all jobs of a step, which computes as many partitions at once
        as its size has threads; of other engines one. None where nothing says how many Glue takes."""
        node = self.project.tables.get(asset)
        if node is None or self.engine(node) != "glue":
            return 1
        found = self._glue(node)
        return found.workers * self.duckdb(node).threads if found else None

    def _glue(self, node: TableNode) -> GlueSize | None:
        return self.project.platform.glue_workers(node.dataset.runner, self.name(node))

    def _size(self, node: TableNode) -> Size:
        return self.project.platform.sizes[self.name(node)]
