"""The demo's CRM drop on a real S3: TPC-H's customers, in several objects, the same each time, never half made."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote
from uuid import uuid4

import pytest

from etl_assets.demo.crm import CRM_URL, CrmSummary, Drop, create_crm
from etl_resources.errors import PermanentError, SettingsError, TransientError
from etl_resources.settings import load_settings, resolve_secret

SCALE = 0.001


@pytest.fixture
def url(stack: object) -> str:
    """An address of a bucket that isn't there yet."""
    endpoint, key, secret = load_settings().require_s3()
    scheme, _, server = endpoint.partition("://")
    return f"s3+{scheme}://{quote(key, safe='')}:{quote(secret, safe='')}@{server}/crm-{uuid4().hex[:10]}"


@pytest.fixture
def create(url: str, tmp_path: Path) -> Callable[..., CrmSummary]:
    def made(**options: Any) -> CrmSummary:
        return create_crm(url, **{"scale": SCALE, "work_dir": tmp_path, "progress": lambda _: None, **options})

    return made


def etags(url: str) -> dict[str, str]:
    drop = Drop.at(url)
    found = drop.keys()
    return {key: drop.service.head_object(Bucket=drop.bucket, Key=key)["ETag"] for key in found}


def customers(url: str) -> list[dict[str, Any]]:
    drop = Drop.at(url)
    bodies = [drop.service.get_object(Bucket=drop.bucket, Key=key)["Body"].read() for key in sorted(drop.keys())]
    return [json.loads(line) for body in bodies for line in gzip.decompress(body).splitlines()]


def test_the_drop_is_several_objects_with_every_customer_once(url: str, create: Callable[..., CrmSummary]) -> None:
    """The pipeline's customer master is as complete as the ERP's."""
    made = create()
    rows = customers(url)
    assert (made.created, made.objects, made.rows) == (True, 5, 150)
    assert sorted(r["customer_id"] for r in rows) == list(range(1, 151))
    first = min(rows, key=lambda r: r["customer_id"])
    assert first == {
        "customer_id": 1, "name": "Customer#000000001", "segment": "BUILDING", "nation": "MOROCCO", "region": "AFRICA",
        "address": first["address"], "phone": "25-989-741-2988", "valid_from": "2023-01-01",
    }  # fmt: skip
    assert set(etags(url)) == {
        f"customers/{r}.jsonl.gz" for r in ("africa", "america", "asia", "europe", "middle-east")
    }  # fmt: skip


def test_a_drop_is_left_as_it_is_and_made_again_with_the_same_bytes(
    url: str, create: Callable[..., CrmSummary]
) -> None:
    """Files that a person added survive; a drop that is replaced by an equal one changes nothing downstream."""
    create()
    before = etags(url)
    drop = Drop.at(url)
    drop.service.put_object(Bucket=drop.bucket, Key="customers/more.jsonl.gz", Body=gzip.compress(b"{}\n"))

    assert create().created is False
    assert set(etags(url)) == {*before, "customers/more.jsonl.gz"}
    with pytest.raises(PermanentError, match=r"have scale 0\.001, not 0\.002"):
        create(scale=0.002)

    assert create(recreate=True).created is True
    assert etags(url) == before


def test_a_drop_that_was_cut_off_is_made_again(url: str, create: Callable[..., CrmSummary], tmp_path: Path) -> None:
    """Without the marker nobody knows how much is there."""
    with mock.patch.object(Drop, "complete", side_effect=TransientError("gone")), pytest.raises(TransientError):
        create()
    assert Drop.at(url).marker() is None
    assert not list(tmp_path.iterdir())

    assert create().created is True
    assert len(customers(url)) == 150


def test_files_of_somebody_else_are_left_alone(url: str, create: Callable[..., CrmSummary]) -> None:
    """A real CRM's bucket, named by mistake, must not get invented customers."""
    drop = Drop.at(url)
    assert drop.marker() is None
    drop.service.put_object(Bucket=drop.bucket, Key="customers/theirs.csv", Body=b"a\n")
    with pytest.raises(PermanentError, match=r"customers/theirs\.csv, which was not made by data-pipeline"):
        create()
    assert drop.keys() == {"customers/theirs.csv"}


def test_the_embedded_stack_publishes_the_address(stack: object) -> None:
    """A source's secret is found without an export, as the ERP's."""
    drop = Drop.at(resolve_secret(f"env:{CRM_URL}"))
    assert drop.bucket == "crm-drop"
    assert drop.endpoint == load_settings().s3_endpoint


def test_a_malformed_address_is_not_quoted() -> None:
    """It holds a secret."""
    with pytest.raises(SettingsError, match="CRM_S3_URL is not of the form") as raised:
        Drop.at("http://AK:hunter2@")
    assert "hunter2" not in str(raised.value)
