"""The catalog's own tables: apart from the ledger's, and what they lose is not replaced by empty tables."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from etl_assets.graph.runtime import Runtime
from etl_resources.errors import PermanentError
from etl_resources.tables.catalog import CATALOG_SCHEMA
from tests.lake import Lake, lake

__all__ = ["lake"]  # a fixture is used by its name

TABLE = "gdp.gdp_sales"


def tables_of_the_catalog(lake: Lake) -> set[str]:
    found = lake.platform("select table_schema from information_schema.tables where table_name = 'iceberg_tables'")
    return {schema for (schema,) in found}


def test_the_catalog_has_a_schema_of_its_own_and_moves_into_it(lake: Lake) -> None:
    made = lake.runtime.store.ensure(lake.runtime.addresses[TABLE])
    assert tables_of_the_catalog(lake) == {CATALOG_SCHEMA}
    for name in ("iceberg_tables", "iceberg_namespace_properties"):
        lake.platform(f"alter table {CATALOG_SCHEMA}.{name} set schema public")
    lake.platform(f"drop schema {CATALOG_SCHEMA}")
    again = Runtime(lake.runtime.project, lake.settings)
    found = again.store.ensure(again.addresses[TABLE])
    assert found.metadata.table_uuid == made.metadata.table_uuid
    assert tables_of_the_catalog(lake) == {CATALOG_SCHEMA}


def test_a_table_that_the_catalog_lost_is_not_made_anew(lake: Lake) -> None:
    address = lake.runtime.addresses[TABLE]
    lake.runtime.store.ensure(address)
    lake.platform(f"delete from {CATALOG_SCHEMA}.iceberg_tables")
    with pytest.raises(PermanentError, match=f"doesn't know this table.*{address.location}/metadata/00001-.*Restore"):
        lake.runtime.store.ensure(address)
    assert lake.platform(f"select count(*) from {CATALOG_SCHEMA}.iceberg_tables") == [(0,)]


def test_catalogs_that_are_opened_at_once_on_an_empty_database_make_one(lake: Lake) -> None:
    project, settings = lake.runtime.project, lake.settings
    for _ in range(3):
        lake.platform(f"drop schema if exists {CATALOG_SCHEMA} cascade")
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda _: Runtime(project, settings).store.catalog.list_namespaces(), range(8)))
        assert made == [[]] * 8
