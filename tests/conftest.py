"""Servers that tests of several folders share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_resources import stack as servers
from etl_resources.settings import load_settings
from etl_resources.stack import StackStatus

BUCKET = "pp-dw-test"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackStatus]:
    """Embedded Postgres and S3, empty, for the whole session; load_settings() finds them, no outside setting does."""
    home = tmp_path_factory.mktemp("project") / ".etl"
    with pytest.MonkeyPatch.context() as environment:
        for name in os.environ:
            if name.startswith("ETL_") or name in {"ERP_DSN", "ERP_ADMIN_DSN", "DAGSTER_HOME"}:
                environment.delenv(name)
        environment.setenv("ETL_HOME", str(home))
        environment.setenv("ETL_S3_BUCKET", BUCKET)
        try:
            yield servers.up(load_settings(), bucket=BUCKET, project_dir=home.parent, ui=False)
        finally:
            servers.down(load_settings(home=home))
            remove_home(home)


def remove_home(home: Path) -> None:
    """Delete a stopped home with its data, which may be in a system folder when the tests run as root."""
    shutil.rmtree((home / "postgres").resolve(), ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)
