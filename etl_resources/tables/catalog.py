"""The Iceberg catalog and its tables: open, create, evolve."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from etl_resources.calendar import WHOLE
from etl_resources.contract import Contract
from etl_resources.errors import PermanentError
from etl_resources.object_store import ObjectStore
from etl_resources.retries import retry_transient
from etl_resources.schema_drift import evolved_contract, promotes
from etl_resources.settings import Settings
from etl_resources.tables.commit import ConflictError, retry_conflicts
from etl_resources.tables.covers import covers_of, follow_covers
from etl_resources.tables.kept import keep_metadata
from etl_resources.tables.partitioning import (
    BY_KEY,
    follow_buckets,
    kept_grain,
    partition_properties,
    partition_spec,
)
from etl_resources.tables.schema import iceberg_schema, manifest_type_of
from etl_resources.tables.source_schema import SchemaRecord

if TYPE_CHECKING:
    import psycopg
    from pyiceberg.catalog import Catalog
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.types import NestedField

CATALOG_NAME = "lake"
"""Spark reads the SQL catalog only under the name that PyIceberg wrote."""
CATALOG_SCHEMA = "iceberg_catalog"
"""Schema of the catalog's own tables in the platform's Postgres."""

TABLE_PROPERTIES = {
    "commit.retry.num-retries": "0",  # we retry ourselves: the stock jitter starves parallel writers
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",  # a reader may still open one of these
    "commit.manifest-merge.enabled": "true",
    "write.parquet.compression-codec": "zstd",
}


def open_catalog(settings: Settings, warehouse: str) -> "Catalog":
    """The catalog in the platform's Postgres, files on its S3. warehouse: s3://bucket."""
    from pyiceberg.catalog import load_catalog

    endpoint, key, secret = settings.require_s3()
    with _own_schema(settings):
        catalog = load_catalog(
            CATALOG_NAME,
            type="sql",
            uri=_sqlalchemy_url(settings.require_postgres()),
            warehouse=warehouse,
            **{
                "s3.endpoint": endpoint,
                "s3.access-key-id": key,
                "s3.secret-access-key": secret,
                "s3.region": settings.s3_region,
                "s3.connect-timeout": str(min(10, settings.s3_timeout_s)),
                "s3.request-timeout": str(settings.s3_timeout_s),
                "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
                "pool_pre_ping": "true",
            },
        )
    keep_metadata(catalog)
    load = catalog.load_table

    def load_again(identifier: str) -> "Table":
        return retry_transient(lambda: load(identifier), str(identifier))

    setattr(catalog, "load_table", load_again)  # noqa: B010  (whichever class of catalog it is)
    return catalog


@contextmanager
def _own_schema(settings: Settings) -> Iterator[None]:
    """Where the catalog's tables are; who opens the first catalog makes them inside, and the others wait.

    By the search path they would get into the ledger's schema, if the user is called as it is. Those of an older
    version are moved.
    """
    from etl_resources.ledger.connection import connect_again, typed_errors

    tables = ("iceberg_tables", "iceberg_namespace_properties")
    with connect_again(settings.require_postgres(), setting="ETL_POSTGRES_DSN") as connection:
        with typed_errors("The catalog"):
            if not all(_exists(connection, f"{CATALOG_SCHEMA}.{name}") for name in tables):
                connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (CATALOG_SCHEMA,))
                connection.execute(f"create schema if not exists {CATALOG_SCHEMA}".encode())
                for name in tables:
                    if _exists(connection, name) and not _exists(connection, f"{CATALOG_SCHEMA}.{name}"):
                        connection.execute(f"alter table {name} set schema {CATALOG_SCHEMA}".encode())
        yield  # closing the connection frees the lock


def _exists(connection: "psycopg.Connection[Any]", table: str) -> bool:
    row = connection.execute("select to_regclass(%s) is not null", (table,)).fetchone()
    return bool(row and row[0])


def _sqlalchemy_url(dsn: str) -> str:
    """A DSN as SQLAlchemy wants it; libpq also takes `host=… dbname=…`, which is no URL."""
    from psycopg.conninfo import conninfo_to_dict
    from sqlalchemy import URL

    parts = {k: str(v) for k, v in conninfo_to_dict(dsn).items() if v is not None}
    port = parts.pop("port", None)
    parts["options"] = f"{parts.get('options', '')} -csearch_path={CATALOG_SCHEMA}".strip()
    return URL.create(
        "postgresql+psycopg2",
        username=parts.pop("user", None),
        password=parts.pop("password", None),
        host=parts.pop("host", None),
        port=int(port) if port else None,
        database=parts.pop("dbname", None),
        query=parts,
    ).render_as_string(hide_password=False)


def ensure_table(
    catalog: "Catalog", identifier: str, location: str, contract: Contract, *, with_run_id: bool = False
) -> "Table":
    """The table, created with an empty snapshot, or with the contract's new columns added, wider ones widened and
    renamed ones renamed, by field id: what was published is read as it is now. New files are split by the contract's
    buckets; maintenance rearranges those that there are.

    A column that the contract no longer has stays in the table, optional, and new files are without it: partitions that
    were published with it are right again, without being computed, when the manifest is set back.

    Raises PermanentError when the contract changed a column in a way that old partitions can't be read as, or when the
    table was made with other partitions than the contract has now.
    """
    table = create_table(catalog, identifier, location, contract, with_run_id=with_run_id)

    def evolve(tries: int) -> "Table":
        current = table if tries == 1 else catalog.load_table(identifier)
        wanted = evolved_contract(contract, SchemaRecord.of(current).evolved)
        current = _rename(current, {c.renamed_from: c.name for c in wanted.columns if c.renamed_from}, identifier)
        with _one_evolution(identifier):
            current = follow_covers(current, contract)
        current = _evolve(current, iceberg_schema(wanted, with_run_id=with_run_id), identifier)
        with _one_evolution(identifier):
            return follow_buckets(current, contract)

    return retry_conflicts(evolve)


def create_table(
    catalog: "Catalog", identifier: str, location: str, contract: Contract, *, with_run_id: bool = False
) -> "Table":
    """The table as it is, or created with an empty snapshot. Raises PermanentError as ensure_table for partitions."""
    from pyiceberg.exceptions import NoSuchTableError, TableAlreadyExistsError

    wanted = iceberg_schema(contract, with_run_id=with_run_id)
    try:
        table = catalog.load_table(identifier)
    except NoSuchTableError:
        _prove_new(catalog, identifier, location)
        _ensure_namespace(catalog, identifier.split(".")[0])
        try:
            table = catalog.create_table(
                identifier,
                schema=wanted,
                location=location,
                partition_spec=partition_spec(wanted, contract),
                properties=TABLE_PROPERTIES | covers_of(contract) | partition_properties(contract),
            )
        except TableAlreadyExistsError:
            table = catalog.load_table(identifier)
    made_with, now = kept_grain(table), WHOLE if contract.partition_column is None else contract.grain.identity
    if made_with != now:
        raise PermanentError(
            f"{identifier} has {_partitions_of(made_with)}, and the manifest, with the platform's calendar, says "
            f"{_partitions_of(now)}. Give the dataset a new name, or set `partitions` or the calendar back."
        )
    if table.current_snapshot() is None:
        table = _add_empty_snapshot(catalog, table, identifier)
    return table


def _ensure_namespace(catalog: "Catalog", name: str) -> None:
    """Another writer may create it between the look and the creation: the catalog answers that with its database's
    error, not with one of its own.
    """
    from sqlalchemy.exc import IntegrityError

    try:
        catalog.create_namespace_if_not_exists(name)
    except IntegrityError:
        if not catalog.namespace_exists(name):
            raise


def _partitions_of(grain: str) -> str:
    return "no partitions" if grain == WHOLE else f"partitions by {grain.replace('_', ' ')}"


def _prove_new(catalog: "Catalog", identifier: str, location: str) -> None:
    """A table that the catalog has lost is not replaced by an empty one, which would disown its files.

    A creation that died left the first metadata file at most: the second is written when the catalog knows the table.
    """
    from pyiceberg.exceptions import NoSuchTableError

    if urlsplit(location).scheme != "s3":
        return
    found = (o.path for o in ObjectStore.of(catalog, location).list("metadata") if o.path.endswith(".metadata.json"))
    later = max((path for path in found if not path.rpartition("/")[2].startswith("00000-")), default=None)
    if later is None:
        return
    try:
        catalog.load_table(identifier)  # another writer created it meanwhile
    except NoSuchTableError as e:
        raise PermanentError(
            f"{identifier}: the catalog doesn't know this table, but its folder holds one ({later}). Restore schema "
            f"{CATALOG_SCHEMA} of the platform's Postgres, or, to begin anew, move {location} away."
        ) from e


def _add_empty_snapshot(catalog: "Catalog", table: "Table", identifier: str) -> "Table":
    """An empty table accepts commits to main only; staging needs a head to branch from."""
    from pyiceberg.exceptions import CommitFailedException

    with (
        suppress(CommitFailedException),  # another writer may be first; its snapshot serves as well
        table.transaction() as transaction,
        transaction.update_snapshot().fast_append(),
    ):
        pass
    return catalog.load_table(identifier)


def _rename(table: "Table", renamed: Mapping[str, str], identifier: str) -> "Table":
    """renamed: former name → name. A column that has its name already is left alone."""
    names = set(table.schema().column_names)
    pairs = [(old, new) for old, new in renamed.items() if old in names and new not in names]
    if not pairs:
        return table
    with _one_evolution(identifier), table.transaction() as transaction:
        with transaction.update_schema() as update:
            for old, new in pairs:
                update.rename_column(old, new)
        if (by := table.properties.get(BY_KEY, "")) in renamed:
            transaction.set_properties({BY_KEY: renamed[by]})
    return table.refresh()


def _evolve(table: "Table", wanted: "Schema", identifier: str) -> "Table":
    current = table.schema()
    names = {f.name: f for f in current.fields}
    added = [f for f in wanted.fields if f.name not in names]
    widened: list[NestedField] = []
    for field in wanted.fields:
        old = names.get(field.name)
        if old is None or old.field_type == field.field_type:
            continue
        if promotes(manifest_type_of(old.field_type), manifest_type_of(field.field_type)):
            widened.append(field)
        else:
            raise PermanentError(
                f"{identifier}: column {field.name} is {old.field_type} in the table and {field.field_type} in the "
                "manifest. Give the changed column a new name (a removed column keeps its name and type)."
            )
    required = {f.name for f in wanted.fields if f.required}
    relaxed = [f.name for f in current.fields if f.required and f.name not in required]
    if not (added or relaxed or widened):
        return table
    with _one_evolution(identifier), table.update_schema() as update:
        for field in added:
            update.add_column(field.name, field.field_type, doc=field.doc)
        for field in widened:
            update.update_column(field.name, field_type=field.field_type)
        for name in relaxed:
            update.make_column_optional(name)
    return table.refresh()


@contextmanager
def _one_evolution(identifier: str) -> Iterator[None]:
    from pyiceberg.exceptions import CommitFailedException

    try:
        yield
    except CommitFailedException as e:
        raise ConflictError(f"{identifier}: the table changed while its columns were evolved ({e}).") from e
