"""The ERP's tables as SQL: their columns, how TPC-H fills them, and what is added after the load.

Statements name no schema: they run with search_path set to the schema being built. Loading is not done here.
"""

from dataclasses import dataclass

SHIFT_YEARS = 28
"""Years added to every date: the shortest shift that keeps weekdays and leap days."""


@dataclass(frozen=True)
class ErpTable:
    """One table. Each column is (name, Postgres type, expression over the columns of TPC-H's table)."""

    name: str
    tpch_name: str
    columns: tuple[tuple[str, str, str], ...]
    lookup: str = ""
    """JOIN that an expression needs, when TPC-H's own table doesn't have its columns."""

    @property
    def create_sql(self) -> str:
        """CREATE TABLE without keys: they are added after the load. TPC-H has no nulls."""
        columns = [f"{name} {kind} NOT NULL" for name, kind, _ in self.columns]
        if self.name in STAMPED_TABLES:
            columns.append("updated_at timestamptz NOT NULL DEFAULT now()")
        return f"CREATE TABLE {self.name} ({', '.join(columns)})"

    def insert_sql(self, target_schema: str) -> str:
        """INSERT from TPC-H's table into `target_schema`; the database itself stamps `updated_at`."""
        names = ", ".join(name for name, _, _ in self.columns)
        expressions = ", ".join(expression for _, _, expression in self.columns)
        return (
            f"INSERT INTO {target_schema}.{self.name} ({names}) "
            f"SELECT {expressions} FROM {self.tpch_name} {self.lookup}"
        )


STAMPED_TABLES = ("customers", "orders", "order_lines")
"""Tables whose `updated_at` the database keeps."""


def _shifted(column: str) -> str:
    return f"CAST({column} + INTERVAL {SHIFT_YEARS} YEAR AS DATE)"


ERP_TABLES = (
    ErpTable(
        "regions",
        "region",
        (("region_id", "int", "r_regionkey"), ("name", "text", "r_name"), ("comment", "text", "r_comment")),
    ),
    ErpTable(
        "nations",
        "nation",
        (
            ("nation_id", "int", "n_nationkey"),
            ("name", "text", "n_name"),
            ("region_id", "int", "n_regionkey"),
            ("comment", "text", "n_comment"),
        ),
    ),
    ErpTable(
        "customers",
        "customer",
        (
            ("customer_id", "bigint", "c_custkey"),
            ("name", "text", "c_name"),
            ("address", "text", "c_address"),
            ("nation_id", "int", "c_nationkey"),
            ("phone", "text", "c_phone"),
            ("account_balance", "numeric(15,2)", "c_acctbal"),
            ("market_segment", "text", "c_mktsegment"),
            ("comment", "text", "c_comment"),
        ),
    ),
    ErpTable(
        "orders",
        "orders",
        (
            ("order_id", "bigint", "o_orderkey"),
            ("customer_id", "bigint", "o_custkey"),
            ("status", "text", "o_orderstatus"),
            ("total_price", "numeric(15,2)", "o_totalprice"),
            ("order_date", "date", _shifted("o_orderdate")),
            ("priority", "text", "o_orderpriority"),
            ("clerk", "text", "o_clerk"),
            ("ship_priority", "int", "o_shippriority"),
            ("currency", "text", "customer_currency.currency"),
            ("comment", "text", "o_comment"),
        ),
        lookup="JOIN customer_currency ON c_custkey = o_custkey",
    ),
    ErpTable(
        "order_lines",
        "lineitem",
        (
            ("order_id", "bigint", "l_orderkey"),
            ("line_number", "int", "l_linenumber"),
            ("part_id", "bigint", "l_partkey"),
            ("supplier_id", "bigint", "l_suppkey"),
            ("quantity", "numeric(15,2)", "l_quantity"),
            ("extended_price", "numeric(15,2)", "l_extendedprice"),
            ("discount", "numeric(15,2)", "l_discount"),
            ("tax", "numeric(15,2)", "l_tax"),
            ("return_flag", "text", "l_returnflag"),
            ("line_status", "text", "l_linestatus"),
            ("ship_date", "date", _shifted("l_shipdate")),
            ("commit_date", "date", _shifted("l_commitdate")),
            ("receipt_date", "date", _shifted("l_receiptdate")),
            ("ship_instructions", "text", "l_shipinstruct"),
            ("ship_mode", "text", "l_shipmode"),
            ("comment", "text", "l_comment"),
        ),
    ),
)
"""In the order in which foreign keys can be met."""

AFTER_LOAD: dict[str, tuple[str, ...]] = {
    "regions": ("ALTER TABLE regions ADD PRIMARY KEY (region_id)",),
    "nations": (
        "ALTER TABLE nations ADD PRIMARY KEY (nation_id)",
        "ALTER TABLE nations ADD FOREIGN KEY (region_id) REFERENCES regions",
    ),
    "customers": (
        "ALTER TABLE customers ADD PRIMARY KEY (customer_id)",
        "CREATE INDEX customers_nation_id_idx ON customers (nation_id)",
        "ALTER TABLE customers ADD FOREIGN KEY (nation_id) REFERENCES nations",
    ),
    "orders": (
        "ALTER TABLE orders ADD PRIMARY KEY (order_id)",
        "CREATE INDEX orders_customer_id_idx ON orders (customer_id)",
        "CREATE INDEX orders_order_date_idx ON orders (order_date)",
        "CREATE INDEX orders_updated_at_idx ON orders (updated_at)",
        "ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customers",
    ),
    "order_lines": (
        "ALTER TABLE order_lines ADD PRIMARY KEY (order_id, line_number)",
        "CREATE INDEX order_lines_updated_at_idx ON order_lines (updated_at)",
        "ALTER TABLE order_lines ADD FOREIGN KEY (order_id) REFERENCES orders ON DELETE CASCADE",
    ),
}
"""Keys, indexes and foreign keys of each table: built once over loaded rows, never row by row."""

STAMP_FUNCTION = """
CREATE FUNCTION stamp_update() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$
"""
"""Sets `updated_at` whatever the client sends: a stamp that clients can choose would hide late changes."""


def stamp_trigger(table: str) -> str:
    """CREATE TRIGGER that lets the database alone keep `updated_at` of `table`."""
    event = f"BEFORE UPDATE ON {table} FOR EACH ROW"
    return f"CREATE TRIGGER {table}_updated_at {event} EXECUTE FUNCTION stamp_update()"
