"""Where a table lives and what it promises: all that the protocol needs to know about it."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from etl_resources.contract import Contract
from etl_resources.conventions import META_RUN_ID, database_name, table_location, table_name
from etl_resources.schema_drift import evolved_contract
from etl_resources.tables.source_schema import SchemaRecord

if TYPE_CHECKING:
    from pyiceberg.table import Table


class Address(Protocol):
    """What maintenance needs to know of a table: whose attempts write it, its name in the catalog, its folder."""

    @property
    def asset(self) -> str: ...

    @property
    def identifier(self) -> str: ...

    @property
    def location(self) -> str: ...


@dataclass(frozen=True)
class TableAddress:
    """A dataset's layer as an Iceberg table."""

    layer: str
    dataset: str
    tenant: str
    contract: Contract
    logic_version: str
    database_prefix: str
    bucket: str

    @property
    def asset(self) -> str:
        """Name in SQL, ledger and messages: silver.sales_orders."""
        return f"{self.layer}.{self.dataset}"

    @property
    def identifier(self) -> str:
        """Name in the catalog: pp_dw_gold.silver_sales_orders."""
        return f"{database_name(self.database_prefix, self.layer)}.{table_name(self.layer, self.dataset)}"

    @property
    def location(self) -> str:
        return table_location(self.bucket, self.layer, self.dataset)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are written. The table may have more: those that the contract once had."""
        return (*self.contract.names, META_RUN_ID) if self.with_run_id else self.contract.names

    def as_stored(self, table: "Table") -> "TableAddress":
        """With the columns that the table followed its source in, beyond the manifest's."""
        fields = set(table.schema().column_names)
        evolved = {name: kind for name, kind in SchemaRecord.of(table).evolved.items() if name in fields}
        return replace(self, contract=evolved_contract(self.contract, evolved)) if evolved else self

    @property
    def with_run_id(self) -> bool:
        """Bronze rows carry the run that delivered them."""
        return self.layer == "bronze"
