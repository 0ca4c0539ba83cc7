"""What the demo draws at its end: the flow with the rows of each table, and the KPI in euros."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from textwrap import wrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etl_assets.demo.run import DemoResult

WIDTH, MARGIN = 116, 11
SYSTEMS = {"erp": "ERP in Postgres", "crm": "CRM files in S3", "ecb": "ECB rates over HTTP"}
SERVERS = {"postgres": "Postgres", "elasticsearch": "Elasticsearch"}
LAYERS = ("bronze", "silver", "gdp", "kpi")


def picture(result: "DemoResult") -> Iterator[str]:
    """Lines: sources, layers, what was set aside and why, serving stores."""
    yield from _groups("sources", result.rows, SYSTEMS)
    for layer in LAYERS:
        yield from _box(layer, _listed(result.rows, layer))
        for found in result.rejected:
            if found["asset"].startswith(f"{layer}."):
                yield f"{'':<{MARGIN}}└─ {found['rows']:,} rows of {found['asset']} set aside: {found['reason']}"
    served = {group: name for group, name in SERVERS.items() if _listed(result.rows, group)}
    yield from _groups("serving", result.rows, served)
    if result.left_out:
        names = ", ".join(name.partition(".")[2] for name in result.left_out)
        yield f"{'':<{MARGIN}}└─ not running, so left out: {names} (needs Java 17 or ETL_ELASTICSEARCH_URL)"


def kpi_table(rows: "Sequence[Mapping[str, Any]]") -> Iterator[str]:
    """The last months in euros."""
    heading = f"  {'month':<8}{'orders':>8}{'lines':>9}{'net revenue EUR':>18}{'growth':>9}{'on time':>9}"
    yield f"{heading}   top customer of twelve months"
    for row in rows:
        yield (
            f"  {row['month']:<8}{row['orders']:>8,}{row['lines']:>9,}{Decimal(row['net_revenue_eur']):>18,.2f}"
            f"{_percent(row['growth'], '+'):>9}{_percent(row['on_time']):>9}"
            f"   #{row['top_customer']}, EUR {Decimal(row['top_customer_eur']):,.2f}"
        )


def _percent(share: str | None, sign: str = "") -> str:
    return "–" if share is None else f"{Decimal(share) * 100:{sign}.1f} %"


def _groups(layer: str, rows: Mapping[str, int], groups: Mapping[str, str]) -> Iterator[str]:
    for i, (group, name) in enumerate(groups.items()):
        tables = _listed(rows, group)
        yield from _box("" if i else layer, f"{name}: {tables}" if tables else name)


def _listed(rows: Mapping[str, int], group: str) -> str:
    # a table and its number stay on one line
    found = [f"{name.removeprefix(f'{group}.')}\xa0{n:,}" for name, n in rows.items() if name.startswith(f"{group}.")]
    return ", ".join(found)


def _box(layer: str, text: str) -> Iterator[str]:
    for i, line in enumerate(wrap(text, WIDTH - MARGIN)):
        yield f"  {'' if i else layer:<{MARGIN - 2}}{line}".replace("\xa0", " ")
