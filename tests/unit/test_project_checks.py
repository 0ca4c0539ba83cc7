"""What fields mean to each other: an edit of the project is an error with file, line and valid values."""

import shutil
from pathlib import Path

import pytest
from project_edits import GDP, KPI, LINES, ORDERS, PLATFORM, edit, errors_of, project, prove_told

from tests.projects import CUSTOMERS

__all__ = ["project"]  # a fixture is used by its name

# fmt: off
# what is edited, from, to, the text on whose line the error is, the message
CASES = {
    "folder": (
        ORDERS, "dataset: sales_orders", "dataset: sales_order", "dataset:",
        "lies in folder 'sales_orders'",
    ),
    "tenant": (
        ORDERS, "tenant: acme", "tenant: acne", "tenant",
        "unknown tenant 'acne'; did you mean 'acme'? Valid: acme",
    ),
    "size": (
        ORDERS, "size: medium", "size: huge", "runner:",
        "unknown size 'huge'; valid: medium, large, spread (platform.yaml)",
    ),
    "network profile": (
        ORDERS, "network_profile: private_vpc", "network_profile: vpn", "runner:",
        "unknown network profile 'vpn'; valid: private_vpc",
    ),
    "system": (ORDERS, "system: erp", "system: crm", "system: crm", "unknown system 'crm'; valid: erp"),
    "reconcile system": (
        KPI, "system: erp", "system: crm", "system: crm",
        "unknown system 'crm'; valid: erp",
    ),
    "partition column": (
        ORDERS, "{by: order_date,", "{by: order_dat,", "partitions:",
        "partition column 'order_dat' is not a column of source; did you mean 'order_date'? Valid: order_id,",
    ),
    "partition column of a layer": (
        LINES, "    order_date: {nullable: false, description: Day of the order}\n",
        "", "  columns:\n    order_id: {",
        "partition column 'order_date' is not a column of silver; did you mean 'order_id'? Valid: order_id,",
    ),
    "partition type": (
        ORDERS, "order_date: date", "order_date: string", "order_date: string",
        "partition column 'order_date' is a string; valid: date, timestamptz",
    ),
    "start": (
        ORDERS, "every: month}", "every: month, start: 2020-01}", "partitions:",
        "start 2020-01 lies outside the platform's calendar; valid: 2023-08 to 2026-07",
    ),
    "end": (
        ORDERS, "every: month}", "every: month, start: 2024-05, end: 2024-04}", "partitions:",
        "end 2024-04 lies before start 2024-05",
    ),
    "source key": (
        ORDERS, "key: [order_id]", "key: [order]", "key: [order]",
        "key 'order' is not a column of source; did you",
    ),
    "mode of schema evolution": (
        ORDERS, "bronze: {}", "bronze: {schema_evolution: follow}", "bronze:",
        "bronze.schema_evolution: 'follow' is not valid; valid: evolve, freeze, quarantine",
    ),
    "former name that is one of today": (
        ORDERS, "order_date: date", "order_date: {type: date, renamed_from: order_id}", "order_date: {type",
        "column 'order_date' is renamed from 'order_id', which is a column of source: take that one out",
    ),
    "former name of two": (
        ORDERS, "    status: string\n",
        "    status: {type: string, renamed_from: state}\n    other: {type: string, renamed_from: state}\n",
        "    other: {type", "column 'other' is renamed from 'state', which another column was renamed from, too: keep",
    ),
    "table key": (
        KPI, "key: [month, nation, currency]", "key: [month, land]", "key:",
        "key 'land' is not a column of kpi; valid: month, nation,",
    ),
    "change column": (
        ORDERS, "change_column: updated_at", "change_column: update_at", "change_column",
        "change_column 'update_at' is not a column of the source; did you mean 'updated_at'? Valid: ",
    ),
    "join on": (
        LINES, "on: {order_id: order_id}", "on: {order_id: order_no}", "- {table: erp.orders",
        "join on 'order_no': not a column of the source; did you mean 'order_id'? Valid: order_id,",
    ),
    "join order": (
        ORDERS, "on: {customer_id: customer_id}", "on: {customer_id: nation}", "- {table: erp.customers",
        "join on 'nation': the column comes from this or a later join; move that join up",
    ),
    "join column": (
        LINES, "columns: {order_date: order_date}",
        "columns: {order_date: order_date, x: y}", "- {table: erp.orders",
        "join gives 'x', which is not a column of the source: list it with its type",
    ),
    "join table": (
        LINES, "table: erp.orders", "table: orders", "- {table: orders",
        "source.joins[0].table: 'orders' is not valid; expected schema.table in lower case",
    ),
    "inherited type": (
        ORDERS, "    priority: {desc", "    prio: {desc", "prio: {desc",
        "column 'prio' has no type and the source has no such column: give its type (bigint, int, string,",
    ),
    "type of a gdp column": (
        GDP, "status: {type: string,", "status: {", "status: {",
        "column 'status' has no type; valid: bigint, int,",
    ),
    "scale": (
        ORDERS, "decimal(15,2)", "decimal(15,16)", "decimal(15,16)",
        "column 'total_price': scale of decimal(15,16) is above its precision; valid: 0 to 15",
    ),
    "nullable in source": (
        ORDERS, "clerk: string", "clerk: {type: string, nullable: false}", "clerk:",
        "column 'clerk': nullable isn't used in source, which is taken as delivered; put it in silver",
    ),
    "rule value": (
        ORDERS, "check: {ge: 0}", "check: {ge: none}", "check: {ge: none}",
        "check of 'total_price': ge 'none' is not a value of type decimal(15,2)",
    ),
    "rule of the wrong type": (
        ORDERS, "check: {ge: 0}", 'check: {matches: "[0-9]+"}', 'check: {matches: "[0-9]',
        "check of 'total_price': matches needs a column of type string, this is decimal(15,2)",
    ),
    "regular expression": (
        ORDERS, '"[A-Z]{3}"', '"[A-Z{3}"', "[A-Z{3}",
        "check of 'currency': matches '[A-Z{3}' is not a regular expression",
    ),
    "isin": (
        ORDERS, "isin: [O, F, P]", "isin: [O, 1]", "isin:",
        "check of 'status': isin 1 is not a value of type string",
    ),
    "check on a partition": (
        ORDERS, 'rejected_share: {le: "0.05"}', "rejected_share: {le: few}", "rejected_share",
        "rejected_share: le 'few' is not a number",
    ),
    "check on a partition with a text rule": (
        ORDERS, 'rejected_share: {le: "0.05"}', 'rows: {matches: "1"}', "rows:",
        "unknown key 'matches' in silver.checks[0].rows; valid: ge, gt, le, lt",
    ),
    "grain": (
        GDP, "grain: silver.sales_lines", "grain: silver.sales_line", "grain",
        "grain 'silver.sales_line' is not read by the SQL; did you mean 'silver.sales_lines'? "
        "Valid: silver.sales_lines, silver.sales_orders",
    ),
    "target": (
        KPI, "postgres: analytics.kpi", "postgres: public.kpi", "- {postgres: public",
        "target 'public.kpi_net_revenue' isn't allowed; valid: analytics.* (allowed_targets of "
        "platform.yaml)",
    ),
    "serving key": (
        KPI, "load: replace}", "load: upsert, key: [mont]}", "load: upsert",
        "key 'mont' is not a column of kpi.kpi_net_revenue; did you mean 'month'? Valid: month,",
    ),
    "upsert without key": (
        KPI, "load: replace}", "load: upsert, key: []}", "load: upsert",
        "serving[0].key: a list without entries is not valid; expected a list of at least 1",
    ),
    "index": (
        KPI, "postgres: analytics.kpi_net_revenue", "elasticsearch: kpi", "- {elasticsearch: kpi",
        "target 'kpi' isn't allowed; valid: none (allowed_targets of platform.yaml)",
    ),
    "name of an index": (
        KPI, "postgres: analytics.kpi_net_revenue", 'elasticsearch: "kpi-*"', "- {elasticsearch:",
        "serving[0].elasticsearch: 'kpi-*' is not valid; expected a name: lower case letters, digits and _",
    ),
    "key of an index": (
        KPI, "postgres: analytics.kpi_net_revenue, load", "elasticsearch: kpi, lod", "- {elasticsearch:",
        "unknown key 'lod' in serving[0]; did you mean 'load'?",
    ),
    "target served twice": (
        KPI, "load: replace}",
        "load: replace}\n  - {postgres: analytics.kpi_net_revenue}",
        "  - {postgres: analytics.kpi_net_revenue}",
        "target 'analytics.kpi_net_revenue' is also served by dataset 'kpi_net_revenue': a target "
        "has one writer",
    ),
    "compared measure": (
        KPI, 'compare: {orders: "0",', 'compare: {order: "0",', "compare:",
        "compared measure 'order' is not a numeric column; did you mean 'orders'? Valid: orders, lines,",
    ),
    "tolerance": (
        KPI, 'net_revenue: "0.00"', 'net_revenue: "some"', "compare:",
        "tolerance 'some' of 'net_revenue' is not valid; expected a decimal of 0 or more, e.g. '0.01'",
    ),
    "tolerance below 0": (
        KPI, 'net_revenue: "0.00"', 'net_revenue: "-1"', "compare:",
        "tolerance '-1' of 'net_revenue' is not",
    ),
    "missing SQL file": (
        GDP, "sql: gdp_sales.sql", "sql: sales.sql", "sql:",
        "sales.sql doesn't exist in datasets/gdp_sales; .sql files there: gdp_sales.sql",
    ),
    "time zone": (
        PLATFORM, "time_zone: UTC", "time_zone: Mars/Base", "calendar:",
        "calendar: unknown time zone 'Mars/Base'",
    ),
}
# fmt: on


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_error_names_file_line_and_what_is_valid(
    project: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str, str, str]
) -> None:
    """Somebody who reads the line can go there and knows what to write."""
    monkeypatch.chdir(project)
    prove_told(project, *case)


def test_two_datasets_that_would_share_a_table_are_refused(project: Path) -> None:
    """gdp of `sales` and of `gdp_sales` have one name in the catalog: one would overwrite the other."""
    shutil.copytree(project / "datasets/gdp_sales", project / "datasets/sales")
    edit(project / "datasets/sales/manifest.yaml", "dataset: gdp_sales", "dataset: sales")
    (error,) = errors_of(project)
    assert "gdp.gdp_sales" in error
    assert "gdp.sales" in error
    assert "would be the same table pp_dw_gold.gdp_sales" in error


def test_a_reserved_column_name_is_refused(project: Path) -> None:
    """A source column `epoch` would be taken for the folder of the attempt."""
    edit(project / ORDERS, "    clerk: string", "    epoch: string")
    (error,) = errors_of(project)
    assert "column 'epoch' has a name that the platform uses" in error


def test_a_source_of_another_kind_than_its_system_is_refused(project: Path) -> None:
    """A table can't be read from a bucket."""
    edit(project / PLATFORM, "{kind: postgres,", "{kind: s3_files,")
    message = "system 'erp' is of kind s3_files, the source of kind postgres; valid: none (platform.yaml)"
    assert [e.partition(": ")[2] for e in errors_of(project)] == [message, message]


def test_bronze_that_follows_its_source_is_not_served_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target has the columns of a contract; those that nobody declared would be in one store and not in the other."""
    shutil.copytree(CUSTOMERS, tmp_path / "p")
    monkeypatch.chdir(tmp_path)
    manifest = tmp_path / "p/datasets/customers/manifest.yaml"
    before, _, rest = (
        manifest.read_text().replace("bronze: {}", "bronze: {schema_evolution: evolve}").partition("silver:")
    )
    manifest.write_text(f"{before}serving:{rest.partition('serving:')[2]}")
    (told,) = errors_of(tmp_path / "p")
    assert told.startswith("p/datasets/customers/manifest.yaml:17: bronze that evolves isn't served")
