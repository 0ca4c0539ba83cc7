"""Where the letters of a table or target are kept: an Iceberg table of their own, partitioned as it is."""

from dataclasses import dataclass, replace

from etl_resources.contract import Contract
from etl_resources.dead_letters.letter import LETTERS


@dataclass(frozen=True)
class LettersAddress:
    """A letters table. It has the name of its asset in the ledger, whose attempts write it."""

    asset: str
    """Whose rejected rows it holds: silver.sales_orders, elasticsearch.orders."""
    partitioned: bool
    database_prefix: str
    bucket: str

    @property
    def identifier(self) -> str:
        """Name in the catalog: pp_dw_dead_letters.silver_sales_orders."""
        return f"{self.database_prefix}_dead_letters.{self._name}"

    @property
    def location(self) -> str:
        return f"s3://{self.bucket}/dead_letters/{self._name}"

    @property
    def contract(self) -> Contract:
        """The same columns for every table; without months it has no partitions."""
        return LETTERS if self.partitioned else replace(LETTERS, partition_column=None)

    @property
    def _name(self) -> str:
        return self.asset.replace("-", "__").replace(".", "_")
