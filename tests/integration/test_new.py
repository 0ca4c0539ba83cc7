"""`data-pipeline new` on a real Postgres: the catalog says what the manifest says, and the result is valid."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import typer
from typer.testing import CliRunner, Result

from etl_assets.cli.manifests import register
from etl_assets.project import load_project
from etl_resources.errors import PermanentError
from etl_resources.extract.postgres import SourceTable, open_source, snapshot_of
from etl_resources.partition_sql import Placement
from tests.databases import new_databases
from tests.projects import SALES

TABLES = """
create schema shop;
create domain shop.money2 as numeric(12,2) not null;
create table shop.invoices (
    region smallint,
    invoice_id bigint,
    code varchar(20),
    kind char(1) not null,
    amount shop.money2,
    paid boolean,
    issued_on date not null,
    updated_at timestamptz not null default now(),
    dropped int,
    primary key (invoice_id, region)
);
alter table shop.invoices drop column dropped;
comment on table shop.invoices is 'What was billed: "gross"';
comment on column shop.invoices.amount is 'Total of the lines';
create view shop.open_invoices as select * from shop.invoices where not paid;
create table shop.odd (
    id int primary key, made_on date not null, total numeric, at timestamp, payload json, tags text[], "Mixed" text
);
"""


@pytest.fixture(scope="module")
def shop(stack: object) -> Iterator[str]:
    """DSN of an own database with the tables above."""
    with new_databases("new") as create:
        dsn = create()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(TABLES)
        yield dsn


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one system and no dataset."""
    (tmp_path / "datasets").mkdir()
    shutil.copy(SALES / "platform.yaml", tmp_path)
    return tmp_path


@pytest.fixture
def new(shop: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> "New":
    monkeypatch.setenv("ERP_DSN", shop)
    return New(project)


class New:
    """Runs the verb in a project of its own."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.app = typer.Typer()
        register(self.app)

    def __call__(self, dataset: str, table: str, *options: str) -> Result:
        arguments = ["new", dataset, "--from", f"postgres:{table}", "--project", str(self.project), *options]
        return CliRunner().invoke(self.app, arguments)

    def manifest(self, dataset: str) -> Path:
        return self.project / "datasets" / dataset / "manifest.yaml"


def test_the_manifest_is_valid_and_true(new: New, shop: str) -> None:
    """Types, key order, nulls and comments are the catalog's; the capture's own proof of types agrees."""
    result = new("invoices", "shop.invoices", "--owner", "team:billing")
    assert result.exit_code == 0, result.output
    loaded = load_project(new.project)
    contract = loaded.tables["silver.invoices"].contract
    assert {c.name: (c.type, c.nullable) for c in contract.columns} == {
        "region": ("int", False),
        "invoice_id": ("bigint", False),
        "code": ("string", True),
        "kind": ("string", False),
        "amount": ("decimal(12,2)", False),
        "paid": ("boolean", True),
        "issued_on": ("date", False),
        "updated_at": ("timestamptz", False),
    }
    assert contract.key == ("invoice_id", "region")
    dataset = loaded.datasets["invoices"]
    assert dataset.source is not None
    assert dataset.source.change_column == "updated_at"
    assert (dataset.description, dataset.owner) == ('What was billed: "gross"', "team:billing")
    with (
        open_source(shop, setting="ERP_DSN", timeout_s=10) as connection,
        snapshot_of(connection, shop, "ERP_DSN") as snapshot,
    ):
        snapshot.prove_types(SourceTable(dataset.source, Placement("issued_on")))


def test_an_existing_manifest_is_kept(new: New) -> None:
    """Somebody's edits are not lost to a repeated command; --force and --dry-run say otherwise."""
    assert new("invoices", "shop.invoices").exit_code == 0
    new.manifest("invoices").write_text("edited")
    assert isinstance(new("invoices", "shop.invoices").exception, PermanentError)
    printed = new("invoices", "shop.invoices", "--dry-run")
    assert new.manifest("invoices").read_text() == "edited"
    assert new("invoices", "shop.invoices", "--force").exit_code == 0
    assert new.manifest("invoices").read_text() == printed.stdout


def test_a_dry_run_writes_nothing(new: New) -> None:
    """Not even a folder."""
    assert new("invoices", "shop.invoices", "--dry-run").stdout.startswith("dataset: invoices\n")
    assert list((new.project / "datasets").iterdir()) == []


def test_a_view_needs_a_key(new: New) -> None:
    """The catalog has none; with one given the view is as good as a table."""
    refused = new("open_invoices", "shop.open_invoices")
    assert "shop.open_invoices has no primary key: give --key; valid: region, invoice_id," in str(refused.exception)
    assert new("open_invoices", "shop.open_invoices", "--key", "invoice_id, region").exit_code == 0
    assert load_project(new.project).tables["silver.open_invoices"].contract.key == ("invoice_id", "region")


def test_unsupported_columns_are_named_or_left_out(new: New) -> None:
    """All at once, each with its reason."""
    refused = str(new("odd", "shop.odd").exception)
    for text in ("total (numeric)", "at (timestamp without time zone)", "payload (json)", "tags (text[])", "Mixed"):
        assert text in refused
    assert new("odd", "shop.odd", "--skip-unsupported").exit_code == 0
    assert load_project(new.project).tables["silver.odd"].contract.names == ("id", "made_on")


def test_an_unknown_table_names_those_there(new: New) -> None:
    """A typo costs one look."""
    message = str(new("invoices", "shop.invoice").exception)
    assert message.startswith("Table shop.invoice doesn't exist there; did you mean 'shop.invoices'? Valid: shop.")


def test_the_catalog_is_read_without_writing(shop: str) -> None:
    """C8: a system of record is never written, whatever the role may do."""
    with (
        open_source(shop, setting="ERP_DSN", timeout_s=10) as connection,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        connection.execute("create table shop.written (id int)")
