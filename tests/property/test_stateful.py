"""The whole flow against a model: any source changes, runs, deaths, retries, recoveries, maintenance and rollbacks.

`--hypothesis-profile=deep` looks for an hour; the default is a minute's worth. A failure prints its steps and a blob.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from etl_assets.project import load_project
from etl_resources.settings import load_settings
from tests.databases import new_databases
from tests.property.platform_machine import Platform
from tests.property.tiny_sales import write_project
from tests.property.writers import Servers, warm_engines

QUICK = settings(max_examples=3, stateful_step_count=12, deadline=None, print_blob=True,
                 suppress_health_check=list(HealthCheck))  # fmt: skip


@pytest.fixture
def shared_servers(stack: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import boto3

    write_project(tmp_path / "project")
    endpoint, key, secret = load_settings().require_s3()
    bucket = boto3.resource("s3", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret,
                            region_name="us-east-1").Bucket("tiny-sales")  # fmt: skip
    bucket.create()
    monkeypatch.setenv("ETL_S3_BUCKET", bucket.name)
    with new_databases("tiny") as new_database, warm_engines():
        servers = Servers(
            load_project(tmp_path / "project"),
            tmp_path,
            new_database,
            lambda dsn: monkeypatch.setenv("ERP_DSN", dsn),
            lambda: bucket.objects.delete(),
        )
        monkeypatch.setattr(Platform, "servers", servers, raising=False)
        yield
    bucket.objects.delete()
    bucket.delete()


def test_nothing_is_lost_twice_or_old_whatever_happens(shared_servers: None) -> None:
    """The product's promise, with the product's own steps on real servers."""
    quick = settings.get_current_profile_name() not in ("deep", "search")
    run_state_machine_as_test(Platform, settings=QUICK if quick else settings())
