"""The sources of tests/projects/history: an ERP in Postgres, a CRM's files in S3, a bank's rates over HTTP."""

import gzip
import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg

from etl_assets.demo.crm import Drop
from tests.integration.example import crm_url
from tests.lake import Lake, new_lake
from tests.projects import HISTORY

_ERP = """
create schema erp;
create table erp.shops (shop_id int primary key, name text);
create table erp.orders (order_id bigint primary key, order_date date, customer_id bigint, currency text, shop_id int,
    note text, updated_at timestamptz not null default now());
create table erp.lines (order_id bigint, line_number int, amount numeric(15,2),
    updated_at timestamptz not null default now(), primary key (order_id, line_number));
create function erp.stamp() returns trigger language plpgsql as
    'begin new.updated_at = now(); return new; end';
create trigger stamp before update on erp.orders for each row execute function erp.stamp();
create trigger stamp before update on erp.lines for each row execute function erp.stamp();
create index on erp.orders (updated_at);
create index on erp.lines (updated_at);
"""
ROWS_PER_PAGE = 40
Customer = tuple[int, date]
"""Number, and the day from which the row holds."""
Rate = tuple[str, date]


@dataclass(frozen=True)
class Order:
    """A row of erp.orders, with the name of its shop."""

    day: date
    customer: int
    currency: str
    shop: int
    shop_name: str
    note: str
    stamp: datetime


@dataclass(frozen=True)
class State:
    """All sources at one instant."""

    orders: Mapping[int, Order]
    lines: Mapping[tuple[int, int], tuple[Decimal, datetime]]
    """Order and line → amount, stamp. Every line has its order."""
    customers: Mapping[Customer, tuple[str, str]]
    """→ segment, note."""
    rates: Mapping[Rate, Decimal]


@dataclass
class Sources:
    """What a history changes."""

    lake: Lake
    files: dict[str, dict[Customer, tuple[str, str]]] = field(default_factory=dict)
    """Name of an object → its rows. No row is in two of them."""
    rates: dict[Rate, Decimal] = field(default_factory=dict)

    def prepare(self) -> None:
        """The ERP's empty tables."""
        self.lake.erp(_ERP)

    def drop(self, name: str, rows: Mapping[Customer, tuple[str, str]]) -> None:
        """An object of the CRM, or what it is from now on."""
        lines = [
            json.dumps({"customer_id": c, "valid_from": str(since), "segment": segment, "note": note})
            for (c, since), (segment, note) in rows.items()
        ]
        body = gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)
        self._crm.service.put_object(Bucket=self._crm.bucket, Key=f"customers/{name}.jsonl.gz", Body=body)
        self.files[name] = dict(rows)

    def remove(self, name: str) -> None:
        """An object is gone."""
        self._crm.service.delete_object(Bucket=self._crm.bucket, Key=f"customers/{name}.jsonl.gz")
        del self.files[name]

    @property
    def _crm(self) -> Drop:
        return Drop.at(self.lake.env["CRM_S3_URL"])

    def state(self) -> State:
        """By plain SQL in one snapshot, and what the files and the bank hold."""
        with psycopg.connect(self.lake.erp_dsn, options="-c timezone=UTC") as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            orders = connection.execute(
                "select order_id, order_date, customer_id, currency, shop_id, s.name, note, updated_at "
                "from erp.orders join erp.shops s using (shop_id)"
            ).fetchall()
            lines = connection.execute("select order_id, line_number, amount, updated_at from erp.lines").fetchall()
        return State(
            {number: Order(*rest) for number, *rest in orders},
            {(o, n): (amount, stamp) for o, n, amount, stamp in lines},
            {key: row for rows in self.files.values() for key, row in rows.items()},
            dict(self.rates),
        )

    def page(self, number: int) -> str:
        """The bank's answer: digits as they are."""
        rows = [f'{{"currency":"{c}","rate_date":"{d}","rate":{rate}}}' for (c, d), rate in sorted(self.rates.items())]
        return f'{{"rates":[{",".join(rows[(number - 1) * ROWS_PER_PAGE : number * ROWS_PER_PAGE])}]}}'


def history_project(folder: Path, search: Mapping[str, str]) -> Path:
    """The project; without Elasticsearch a copy that doesn't serve to it."""
    if search:
        return HISTORY
    copy = shutil.copytree(HISTORY, folder / "project")
    for manifest in copy.glob("datasets/*/manifest.yaml"):
        lines = manifest.read_text().splitlines(keepends=True)
        manifest.write_text("".join(line for line in lines if not line.startswith("serving: [{elasticsearch")))
    return copy


@contextmanager
def history_lake(folder: Path, search: Mapping[str, str]) -> Iterator[Sources]:
    """Empty sources and an empty lake. Needs the stack's servers; `search`: settings of Elasticsearch, or nothing."""
    with new_lake(folder, None, project=history_project(folder, search)) as lake:
        sources = Sources(lake)
        with _served(sources) as address:
            lake.env |= {"RATES_URL": address, "CRM_S3_URL": crm_url(lake.env), **search}
            drop = Drop.at(lake.env["CRM_S3_URL"])
            drop.service.create_bucket(Bucket=drop.bucket)
            sources.prepare()
            try:
                yield sources
            finally:
                drop.remove(drop.keys())
                drop.service.delete_bucket(Bucket=drop.bucket)


@contextmanager
def _served(sources: Sources) -> Iterator[str]:
    class Bank(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number = int(parse_qs(urlsplit(self.path).query).get("page", ["1"])[0])
            body = sources.page(number).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Bank) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
