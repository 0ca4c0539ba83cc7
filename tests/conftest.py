"""Servers that tests of several folders share."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from etl_resources.stack import StackStatus
    from etl_resources.stack.elasticsearch_files import Java

BUCKET = "pp-dw-test"
SOURCES = {"ERP_DSN", "ERP_ADMIN_DSN", "CRM_S3_URL", "RATES_URL"}
"""Addresses of the example's source systems: a person's own must not be read by tests."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--faults", type=int, default=6, metavar="N", help="random fault schedules to run (default 6)")
    group.addoption("--histories", type=int, metavar="N", help="new histories of late data (default: two known ones)")
    group.addoption("--fault-seed", default=None, metavar="S[:I]", help="seed of both; :I runs only the I-th")
    group.addoption("--long", action="store_true", help="every failpoint with every follow-up, and all slow faults")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long mode apart: what is marked so is left out without `--long`, and counted as deselected."""
    if not config.getoption("long"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[StackStatus]":
    """Embedded Postgres and S3, empty, for the whole session; load_settings() finds them, no outside setting does."""
    from etl_resources import stack as servers
    from etl_resources.settings import load_settings
    from tests.integration.stack_project import remove_home
    from tests.projects import SALES

    home = tmp_path_factory.mktemp("project") / ".etl"
    with pytest.MonkeyPatch.context() as environment:
        for name in os.environ:
            if name.startswith("ETL_") or name in {*SOURCES, "DAGSTER_HOME"}:
                environment.delenv(name)
        environment.setenv("ETL_HOME", str(home))
        environment.setenv("ETL_PROJECT", str(SALES))
        environment.setenv("ETL_S3_BUCKET", BUCKET)
        try:
            yield servers.up(load_settings(), bucket=BUCKET, project_dir=home.parent, ui=False, search=False)
        finally:
            servers.down(load_settings(home=home))
            remove_home(home)


@pytest.fixture(scope="session")
def java() -> "Java":
    """A Java that Elasticsearch and Ivy run on. Without one the test is skipped, but in CI it fails."""
    from etl_resources.stack.elasticsearch_files import NoElasticsearchError, find_java

    try:
        return find_java(None)
    except NoElasticsearchError as e:
        _without_elasticsearch(str(e))


@pytest.fixture(scope="session")
def search(java: "Java", stack: "StackStatus") -> "StackStatus":
    """Embedded Elasticsearch beside `stack`, for the rest of the session; load_settings() finds it."""
    from etl_resources import stack as servers
    from etl_resources.settings import load_settings

    status = servers.up(load_settings(), bucket=BUCKET, project_dir=stack.home.parent, ui=False)
    if status.without:
        _without_elasticsearch(status.without[0])
    return status


def _without_elasticsearch(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"CI is set, so Elasticsearch has to be tested: {reason}")
    pytest.skip(reason)
