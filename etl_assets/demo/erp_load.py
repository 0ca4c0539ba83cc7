"""Filling the ERP's empty tables from TPC-H's files, at the speed of binary COPY, in bounded memory."""

from pathlib import Path
from typing import TYPE_CHECKING

from etl_assets.demo import tpch
from etl_assets.demo.currencies import FALLBACK_CURRENCY, NATION_CURRENCIES
from etl_assets.demo.erp_server import loading_conninfo
from etl_assets.demo.erp_tables import ErpTable

if TYPE_CHECKING:
    import duckdb

ENGINE_MEMORY_MB = 400
ENGINE_THREADS = 2
_TARGET = "erp_server"


class ErpLoader:
    """Reads {folder}/{TPC-H table}.parquet and writes `schema` of the ERP's database. One thread only."""

    def __init__(self, admin_dsn: str, *, schema: str, folder: Path) -> None:
        self._schema = schema
        self._engine = _engine(folder)
        _declare_sources(self._engine, folder)
        conninfo = _literal(loading_conninfo(admin_dsn))
        self._engine.execute(f"ATTACH {conninfo} AS {_TARGET} (TYPE postgres, SCHEMA {_literal(schema)})")

    def load(self, table: ErpTable) -> int:
        """Copy one table in one transaction; the number of rows that TPC-H has for it."""
        self._engine.execute(table.insert_sql(f"{_TARGET}.{self._schema}"))
        counted = self._engine.execute(f"SELECT count(*) FROM {table.tpch_name}").fetchone()
        assert counted is not None  # noqa: S101  (an aggregate always yields a row)
        return int(counted[0])

    def close(self) -> None:
        """Close the engine and its sessions."""
        self._engine.close()


def _engine(folder: Path) -> "duckdb.DuckDBPyConnection":
    import duckdb
    from duckdb_extensions import import_extension

    engine = duckdb.connect(
        config={
            "memory_limit": f"{ENGINE_MEMORY_MB}MB",
            "threads": ENGINE_THREADS,
            "temp_directory": str(folder / "spill"),
            "autoinstall_known_extensions": False,
        }
    )
    import_extension("postgres_scanner", con=engine)
    engine.execute("LOAD postgres_scanner")
    engine.execute("SET enable_progress_bar = false")  # it would be written to stdout, where --json belongs
    return engine


def _declare_sources(engine: "duckdb.DuckDBPyConnection", folder: Path) -> None:
    for name in tpch.TABLES:
        engine.execute(f"CREATE VIEW {name} AS FROM read_parquet({_literal(str(folder / f'{name}.parquet'))})")
    engine.execute("CREATE TABLE nation_currency (n_name VARCHAR, currency VARCHAR)")
    engine.executemany("INSERT INTO nation_currency VALUES (?, ?)", list(NATION_CURRENCIES.items()))
    engine.execute(
        f"""CREATE VIEW customer_currency AS
            SELECT c_custkey, coalesce(currency, {_literal(FALLBACK_CURRENCY)}) AS currency
            FROM customer
            LEFT JOIN nation ON n_nationkey = c_nationkey
            LEFT JOIN nation_currency USING (n_name)"""
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
