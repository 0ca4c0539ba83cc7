"""What can be said of the demo's source without a server: its documentation, and how its failures read."""

import re
from pathlib import Path

import duckdb
import psycopg
import pytest

from etl_assets.demo.currencies import NATION_CURRENCIES
from etl_assets.demo.erp import create_erp
from etl_assets.demo.erp_server import server_errors
from etl_resources.errors import DataPipelineError, PermanentError, SettingsError, TransientError


def test_the_documented_currencies_are_the_codes() -> None:
    """Readers find the table in the documentation; the data is made from the one in the code."""
    text = (Path(__file__).parents[2] / "docs" / "demo-source.md").read_text()
    documented = {
        nation.strip(): currency
        for nations, currency in re.findall(r"^\| ([A-Z ,]+) \| ([A-Z]{3}) \|$", text, re.MULTILINE)
        for nation in nations.split(",")
    }
    assert documented == NATION_CURRENCIES


def test_a_malformed_dsn_is_not_quoted(tmp_path: Path) -> None:
    """libpq quotes what it can't parse, which may be the password."""
    with pytest.raises(SettingsError, match="ERP_ADMIN_DSN") as raised:
        create_erp("host=127.0.0.1 hunter2", scale=1, work_dir=tmp_path, progress=lambda _: None)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("failure", "kind", "says"),
    [
        (psycopg.errors.DiskFull("could not extend file"), PermanentError, "disk is full at h:5/d"),
        (duckdb.IOException("No space left on device"), PermanentError, "disk is full at h:5/d"),
        (psycopg.errors.AdminShutdown("terminating"), TransientError, "connection to h:5/d was lost"),
        (psycopg.errors.LockNotAvailable("timeout"), TransientError, "Another session"),
        (psycopg.errors.InsufficientPrivilege("denied"), SettingsError, "ERP_ADMIN_DSN may not build"),
        (duckdb.IOException("Unable to connect: password=hunter2"), TransientError, r"password=\*\*\*"),
    ],
)
def test_server_failures_say_what_to_do(failure: Exception, kind: type[DataPipelineError], says: str) -> None:
    with pytest.raises(kind, match=says) as raised, server_errors("postgresql://u:hunter2@h:5/d"):
        raise failure
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("scale", [0, -1, 0.0001, float("inf"), float("nan")])
def test_a_scale_that_makes_no_source_is_refused(tmp_path: Path, scale: float) -> None:
    with pytest.raises(PermanentError, match=f"Scale {scale} is not a TPC-H scale"):
        create_erp("host=127.0.0.1", scale=scale, work_dir=tmp_path, progress=lambda _: None)
