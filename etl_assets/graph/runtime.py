"""What every step needs: the project, the settings (read when a step starts) and the stores."""

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from datetime import timedelta
from functools import cached_property, partial

from etl_assets.column_lineage import ColumnLineage
from etl_assets.project import Project, ServingNode, TableNode
from etl_assets.run_sizes import RunSizes
from etl_resources.conventions import bucket_name
from etl_resources.dead_letters.address import LettersAddress
from etl_resources.dead_letters.writing import Letters
from etl_resources.engines.spark_conf import GLUE
from etl_resources.errors import PermanentError
from etl_resources.extract.delivery import DeliveredSource
from etl_resources.extract.http_api import HttpApi
from etl_resources.extract.s3_files import S3Files
from etl_resources.extract.source_bucket import SourceBucket
from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.records import Sized
from etl_resources.manifest_http import HttpApiSource
from etl_resources.manifest_runner import GlueSize
from etl_resources.manifest_sizes import DuckdbSize, SparkSize
from etl_resources.manifest_sources import S3FilesSource
from etl_resources.manifest_targets import ElasticsearchTarget
from etl_resources.object_store import ObjectStore
from etl_resources.sensitive import HashKey, hashes
from etl_resources.settings import Settings, load_settings, resolve_secret
from etl_resources.sinks.elasticsearch_replace import ReplacingSink
from etl_resources.sinks.elasticsearch_sink import ElasticsearchSink
from etl_resources.sinks.elasticsearch_upsert import UpsertingSink
from etl_resources.sinks.postgres_sink import PostgresSink
from etl_resources.sinks.serving import ServingSink
from etl_resources.sizes import MANIFESTS, SizeChoice
from etl_resources.tables.address import TableAddress
from etl_resources.tables.table_store import TableStore


class Runtime:
    """One per process, and one per run of a chosen size; connects nowhere until it is asked to."""

    def __init__(self, project: Project, settings: Settings | None = None) -> None:
        self.project = project
        self._given = settings

    @cached_property
    def settings(self) -> Settings:
        return self._given or load_settings()

    @cached_property
    def sizes(self) -> RunSizes:
        """At which it computes; ETL_SIZE holds for the process. Raises PermanentError for one that nobody may run."""
        return self.sizes_of(SizeChoice(self.settings.size).check(self.project.platform, "ETL_SIZE"))

    def sizes_of(self, choice: SizeChoice) -> RunSizes:
        """At which it would compute by another choice."""
        return RunSizes(self.project, choice, by_glue=self.settings.spark_master == GLUE)

    def for_run(self, tags: Mapping[str, str]) -> "Runtime":
        """That of a run with these tags, which may choose a size: whoever launched it, also from the web UI.

        A size that is asked for counts more than ETL_SIZE, which counts more than one that a run is raised to. Raises
        PermanentError for one that nobody may run.
        """
        choice = SizeChoice.of_tags(tags).check(self.project.platform, "the run's tag of a size")
        if choice == MANIFESTS or (self.settings.size and not choice.asked):
            return self
        _ = self.store, self.addresses, self.columns, self.letters_addresses  # made once, not by each step
        found = copy(self)
        found.sizes = replace(self.sizes, choice=choice)
        return found

    @cached_property
    def bucket(self) -> str:
        return self.settings.s3_bucket or bucket_name(self.project.platform.etl_resource_prefix, self.settings.account)

    @cached_property
    def store(self) -> TableStore:
        return TableStore(self.settings, self.bucket)

    @cached_property
    def addresses(self) -> Mapping[str, TableAddress]:
        """Table name → address."""
        return {name: self._address(node) for name, node in self.project.tables.items()}

    @cached_property
    def columns(self) -> ColumnLineage:
        """What every column is made of; looked at when it is asked for."""
        return ColumnLineage(self.project)

    def sink(self, node: ServingNode) -> ServingSink:
        """The serving sink of a target."""
        target = node.target
        return self.search_sink(node) if isinstance(target, ElasticsearchTarget) else self.postgres_sink(node)

    def postgres_sink(self, node: ServingNode) -> PostgresSink:
        """The sink of a target in Postgres."""
        return PostgresSink(
            settings=self.settings,
            target=node.target.place,
            load=node.target.load,
            key=node.key,
            contract=node.table.contract,
            asset=node.name,
        )

    def search_sink(self, node: ServingNode) -> ElasticsearchSink:
        """The sink of a target in Elasticsearch."""
        kind: type[ElasticsearchSink] = UpsertingSink if node.target.load == "upsert" else ReplacingSink
        return kind(self.settings, node.target.place, node.key, node.table.contract, node.name)

    @cached_property
    def letters_addresses(self) -> Mapping[str, LettersAddress]:
        """Table or target that may reject rows → where its letters are."""
        contracts = {name: node.contract for name, node in self.project.tables.items()}
        contracts |= {target.name: target.table.contract for target in self.project.serving}
        prefix = self.project.platform.database_prefix
        return {
            name: LettersAddress(name, contract.partition_column is not None, prefix, self.bucket)
            for name, contract in contracts.items()
        }

    def letters(self, ledger: Ledger, asset: str, attempt: str, run_id: str, source: str) -> Letters:
        """For the rejected rows of one attempt. source: where rows are from that don't say so themselves."""
        return Letters(self.store, ledger, self.letters_addresses[asset], attempt, run_id, source)

    def size(self, node: TableNode) -> DuckdbSize:
        """Threads and memory of the embedded engine for a dataset's size."""
        return self.sizes.duckdb(node)

    def spark_size(self, node: TableNode) -> SparkSize | None:
        """What a dataset's size means to Spark; None: the embedded engine computes it."""
        return self.sizes.spark(node)

    def glue_size(self, node: TableNode) -> GlueSize:
        """Workers of AWS Glue for a dataset. Raises SettingsError when neither its category nor its size says."""
        return self.sizes.glue(node)

    def sized(self, node: TableNode | ServingNode) -> Sized:
        """What the ledger remembers an attempt's size and engine as."""
        return Sized(self.sizes.name(node), self.sizes.engine(node))

    def source_dsn(self, system: str) -> tuple[str, str]:
        """(DSN, secret reference) of a system of record."""
        reference = self.project.platform.systems[system].connection.secret
        return resolve_secret(reference, self.settings.home), reference

    def hash_key(self, node: TableNode) -> HashKey | None:
        """The key of a bronze table's hashed columns, None where it has none.

        Raises SettingsError when there is no usable one, PermanentError when it isn't that of the definitions.
        """
        reference = self.project.platform.hash_key
        if reference is None or not hashes(node.contract):
            return None
        key = HashKey.of(reference.secret, self.settings.home)
        if key.identity != node.hash_key:
            raise PermanentError(
                f"{node.name}: {reference.secret}, the key of hashed columns, is another one than when the definitions "
                "were loaded. Load them again (restart, or reload the code location), and run again."
            )
        return key

    def delivered_source(self, node: TableNode, raw: ObjectStore) -> DeliveredSource:
        """The source of a bronze table that is delivered whole; raw: the store of the raw zone."""
        source, resolve = node.dataset.source, partial(resolve_secret, home=self.settings.home)
        assert source is not None  # noqa: S101  (bronze has a source)
        reference = self.project.platform.systems[source.system].connection.secret
        if isinstance(source, S3FilesSource):
            return S3Files(source, SourceBucket.of(resolve(reference), reference, self.settings, raw))
        assert isinstance(source, HttpApiSource)  # noqa: S101  (Postgres is captured by windows)
        last_day = self.project.platform.calendar.span[1] - timedelta(days=1)
        return HttpApi.of(source, reference, last_day, resolve)

    def _address(self, node: TableNode) -> TableAddress:
        return TableAddress(
            layer=node.layer,
            dataset=node.dataset.dataset,
            tenant=node.dataset.tenant,
            contract=node.contract,
            logic_version=node.logic_version,
            database_prefix=self.project.platform.database_prefix,
            bucket=self.bucket,
        )
