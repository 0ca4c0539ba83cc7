"""The HTTP API source on a scripted API and a raw zone in real S3.

A test module asks for the fixtures with `pytest_plugins = ["tests.integration.api_source"]`.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any

import duckdb
import pytest

from etl_resources.errors import DataPipelineError
from etl_resources.extract.http_api import ApiDelivery, HttpApi
from etl_resources.extract.raw_zone import RawZone
from etl_resources.manifest_http import HttpApiSource
from etl_resources.object_store import ObjectStore
from etl_resources.stack import StackStatus
from etl_resources.stack.s3_probe import client as s3_client
from tests.integration.api_server import Api, serving

KEY = "s3cr3t-k3y"
SECRETS = {"env:KEY": KEY, "env:USER": "ann"}
SOURCE: dict[str, Any] = {
    "kind": "http_api",
    "system": "shop",
    "path": "/orders",
    "rows": "data[]",
    "key": ("id",),
    "columns": {"id": "bigint", "amount": "decimal(18,6)"},
}


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as api:
        yield api


@pytest.fixture
def zone(stack: StackStatus, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RawZone:
    """An empty raw zone in real S3. Retries are short: what is tested is whether there are any."""
    monkeypatch.setenv("ETL_RETRY_WAIT_S_MAX", "0.05")
    monkeypatch.setenv("ETL_RETRY_TRIES", "3")
    return zone_of(stack, f"d{abs(hash(request.node.name))}", "run-1")


def zone_of(stack: StackStatus, dataset: str, run_id: str) -> RawZone:
    assert stack.s3_endpoint and stack.s3_access_key and stack.s3_secret_key  # noqa: PT018
    service = s3_client(stack.s3_endpoint, stack.s3_access_key, stack.s3_secret_key)
    return RawZone(ObjectStore(service, f"s3://{stack.bucket}/raw"), dataset, run_id)


def observe(api: Api, zone: RawZone, **changes: Any) -> ApiDelivery:
    source = HttpApiSource.model_validate({**SOURCE, **changes}, strict=True)
    secrets = {**SECRETS, "env:SHOP_URL": api.url}
    return HttpApi.of(source, "env:SHOP_URL", date(2024, 3, 31), secrets.__getitem__).observe(zone)


def rows(delivery: ApiDelivery, columns: str = "id, amount") -> list[tuple[Any, ...]]:
    with duckdb.connect() as engine:
        found = delivery.rows(engine, delivery.land(delivery.zone))
        read = engine.execute(f"select {columns} from {found.scan()}").fetchall()
        assert found.read == len(read)
        return read


def data(*ids: int) -> list[dict[str, Any]]:
    return [{"id": i, "amount": i / 2} for i in ids]


def ids(delivery: ApiDelivery) -> list[int]:
    return [int(i) for (i,) in rows(delivery, "id")]


def failure(api: Api, zone: RawZone, kind: type[DataPipelineError], **changes: Any) -> str:
    with pytest.raises(kind) as raised:
        observe(api, zone, **changes)
    assert type(raised.value) is kind
    assert KEY not in str(raised.value)
    return str(raised.value)
