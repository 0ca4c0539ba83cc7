"""A server that is away, refuses or answers too late: one clear line, and what was published stays as it was."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from etl_assets.graph import table_step
from etl_resources.sinks.postgres_sink import PostgresSink
from etl_resources.tables import table_store
from tests.fault.proxy import Proxy, proxy_to
from tests.invariants import prove_whole
from tests.lake import KPI, SERVED, Lake, Run
from tests.one_month import MONTH

pytest_plugins = ["tests.lake", "tests.one_month"]

LINE_CHARS_MAX = 600


@contextmanager
def unchanged(lake: Lake) -> Iterator[None]:
    """What is served stays as it was."""
    before = lake.published_kpi(MONTH)
    yield
    assert lake.published_kpi(MONTH) == before


def failed_clearly(run: Run, *words: str) -> None:
    """One of the errors in the chain is a single line with these words."""
    assert not run.success
    lines = [e for e in run.errors if all(w in e for w in words)]
    assert lines, f"{words} in none of:\n{run.error}"
    assert any("\n" not in e and len(e) < LINE_CHARS_MAX for e in lines), lines


def elsewhere(dsn: str, **parts: Any) -> str:
    return make_conninfo(dsn, **parts)


@pytest.mark.parametrize(
    ("setting", "parts", "words"),
    [
        pytest.param("ERP_DSN", {"port": 1}, ("ERP_DSN: no connection to 127.0.0.1:1/",), id="erp away"),
        pytest.param("ERP_DSN", {"dbname": "nowhere"}, ("ERP_DSN", "nowhere refused user"), id="erp database"),
        pytest.param("ERP_DSN", {"password": "wrong"}, ("ERP_DSN", "refused user"), id="erp password"),
        pytest.param("ETL_POSTGRES_DSN", {"port": 1}, ("ETL_POSTGRES_DSN: no connection to",), id="ledger"),
    ],
)  # fmt: skip
def test_a_database_that_cannot_be_reached_is_named_with_its_setting(
    changed: Lake, setting: str, parts: dict[str, Any], words: tuple[str, ...]
) -> None:
    """Whoever is called at night must see which server and which setting, and never the password."""
    dsn = elsewhere(changed.env[setting], **parts)
    if "password" in parts:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(dsn).close()

    with unchanged(changed):
        run = changed.materialize(MONTH, **{setting: dsn})

    failed_clearly(run, *words)
    password = conninfo_to_dict(changed.env[setting]).get("password")
    assert password is None or str(password) not in run.error


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        pytest.param({"ETL_S3_SECRET_KEY": "wrong"}, ("S3",), id="wrong key"),
        pytest.param({"ETL_S3_ENDPOINT": "http://127.0.0.1:1"}, ("S3",), id="closed endpoint"),
        pytest.param({"ETL_S3_BUCKET": "no-such-bucket"}, ("no-such-bucket",), id="no bucket"),
    ],
)
def test_a_storage_that_refuses_leaves_the_published_data_as_it_was(
    changed: Lake, variables: dict[str, str], words: tuple[str, ...]
) -> None:
    """A wrong key in one deployment must not harm what another one published."""
    with unchanged(changed):
        run = changed.materialize(MONTH, **variables)

    failed_clearly(run, *words)


def cutting(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, proxy: Proxy, *, match: str = "", when: str = "before"
) -> None:
    """Cut the proxy before, or after, the first call of a function that has `match` among its arguments."""
    original: Callable[..., Any] = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        here = any(match in str(a) for a in args)
        if here and when == "before":
            proxy.cut()
        result = original(*args, **kwargs)
        if here:
            proxy.cut()
        return result

    monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.parametrize(
    ("owner", "name", "match", "when"),
    [
        pytest.param(PostgresSink, "publish", "", "before", id="serving, before its transaction"),
        pytest.param(PostgresSink, "_fill", "", "after", id="serving, inside its transaction"),
        pytest.param(table_store, "publish", "kpi", "after", id="kpi, committed without evidence"),
    ],
)
def test_a_postgres_that_dies_while_publishing_is_settled_by_the_next_run(
    changed: Lake, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, match: str, when: str
) -> None:
    """Ledger, catalog and serving live in one server: it goes away at the worst moment, and comes back."""
    parts = conninfo_to_dict(changed.platform_dsn)
    with proxy_to(str(parts["host"]), int(str(parts["port"]))) as proxy, unchanged(changed):
        cutting(monkeypatch, owner, name, proxy, match=match, when=when)
        run = changed.materialize(MONTH, ETL_POSTGRES_DSN=elsewhere(changed.platform_dsn, port=proxy.port))
    monkeypatch.undo()

    failed_clearly(run, "ETL_POSTGRES_DSN: no connection to")
    again = changed.materialize(MONTH)
    assert again.success, again.error
    assert again.published(SERVED) == {MONTH}
    prove_whole(changed)


def test_a_storage_that_dies_during_a_run_leaves_the_rest_to_the_next_one(
    changed: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bronze is published, the silver step finds no storage: nothing half is seen, and the next run goes on there."""
    address = urlsplit(changed.env["ETL_S3_ENDPOINT"])
    with proxy_to(str(address.hostname), int(address.port or 80)) as proxy, unchanged(changed):
        cutting(monkeypatch, table_step, "run_transform", proxy)
        run = changed.materialize(MONTH, ETL_S3_ENDPOINT=f"http://127.0.0.1:{proxy.port}", ETL_S3_TIMEOUT_S="5")
    monkeypatch.undo()

    failed_clearly(run, "RestartError: ", "silver", "Could not connect to server", "Gave up after")
    again = changed.materialize(MONTH)
    assert again.success, again.error
    assert again.published(KPI) == {MONTH}
    prove_whole(changed)


def test_a_commit_whose_answer_is_lost_is_read_back_and_not_sent_again(
    changed: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog committed, the connection broke before it said so: sending again would fail or double."""
    from pyiceberg.catalog.sql import SqlCatalog
    from sqlalchemy.exc import OperationalError

    original, lost = SqlCatalog.commit_table, []

    def commit_table(self: SqlCatalog, *args: Any, **kwargs: Any) -> Any:
        original(self, *args, **kwargs)
        lost.append(True)
        raise OperationalError("commit", {}, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr(SqlCatalog, "commit_table", commit_table)
    run = changed.materialize(MONTH)
    monkeypatch.undo()

    assert run.success, run.error
    assert len(lost) == 10, "stage and publish of five tables: silver orders are pruned"
    prove_whole(changed)
