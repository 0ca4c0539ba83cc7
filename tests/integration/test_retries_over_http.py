"""What our clients really raise when an S3 service throttles, fails or is away, and that they are tried again."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import duckdb
import httpx
import pyarrow.fs
import pytest
import requests
from duckdb_extensions import import_extension

from etl_resources.classify import classify
from etl_resources.errors import PermanentError, RestartError, SettingsError, TransientError
from etl_resources.http_errors import retry_after_s
from etl_resources.retries import retry_transient

CLOSED = "http://127.0.0.1:1"


@dataclass
class Service:
    """Answers with these statuses, one each, then with the last one."""

    statuses: list[int]
    headers: dict[str, str] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def service() -> Iterator[Service]:
    answers = Service([503])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answers.times.append(time.monotonic())
            status = answers.statuses.pop(0) if len(answers.statuses) > 1 else answers.statuses[0]
            self.send_response(status)
            for name, value in ({} if status == 200 else answers.headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_PUT = do_POST = answer  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        answers.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield answers
        server.shutdown()
        thread.join()


def by_duckdb(url: str) -> None:
    with duckdb.connect() as engine:
        import_extension("httpfs")
        engine.execute("load httpfs")
        engine.execute("set http_retries = 0")
        engine.execute(
            "create secret (type s3, provider config, key_id 'k', secret 's', url_style 'path', use_ssl false, "
            f"endpoint '{url.removeprefix('http://')}')"
        )
        engine.execute("copy (select 1 as one) to 's3://bucket/epoch=403-404/part-0.parquet'")


def by_pyarrow(url: str) -> None:
    files = pyarrow.fs.S3FileSystem(
        access_key="k", secret_key="s", endpoint_override=url, region="us-east-1", connect_timeout=2,
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=1),
    )  # fmt: skip
    with files.open_output_stream("bucket/epoch=403-404/part-0.parquet") as out:
        out.write(b"x")


def by_boto(url: str) -> None:
    config = botocore.config.Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    s3 = boto3.client("s3", endpoint_url=url, aws_access_key_id="k", aws_secret_access_key="s",
                      region_name="us-east-1", config=config)  # fmt: skip
    s3.put_object(Bucket="bucket", Key="epoch=403-404/part-0.parquet", Body=b"x", IfNoneMatch="*")


def by_requests(url: str) -> None:
    requests.get(url, timeout=5).raise_for_status()


def by_httpx(url: str) -> None:
    httpx.get(url, timeout=5).raise_for_status()


CLIENTS = [by_duckdb, by_pyarrow, by_boto, by_requests, by_httpx]


def error_of(client: Callable[[str], None], url: str) -> Exception:
    with pytest.raises(Exception) as caught:
        client(url)
    return caught.value


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("status", "kind"), [(503, TransientError), (500, TransientError), (403, SettingsError), (412, PermanentError)]
)
def test_a_status_is_of_its_kind(
    service: Service, client: Callable[[str], None], status: int, kind: type[Exception]
) -> None:
    """Each client tells it in its own way: an attribute, a dictionary, a text."""
    service.statuses = [status]
    error = error_of(client, service.url)
    assert type(classify(error)) is kind, repr(error)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_service_that_is_away_is_transient(client: Callable[[str], None]) -> None:
    """Nothing listens there: it may in a moment."""
    error = error_of(client, CLOSED)
    assert type(classify(error)) is TransientError, repr(error)


@pytest.mark.parametrize("client", [by_duckdb, by_boto, by_requests, by_httpx])
@pytest.mark.parametrize("value", ["3", formatdate(time.time() + 86_400, usegmt=True)], ids=["seconds", "date"])
def test_clients_hand_on_when_to_come_back(service: Service, client: Callable[[str], None], value: str) -> None:
    """All but PyArrow keep the answer's headers."""
    service.headers = {"Retry-After": value}
    seconds = retry_after_s(error_of(client, service.url))
    assert seconds == 3 or (seconds or 0) > 3_600  # the date is of the collection: the suite may have run for long


@pytest.mark.parametrize("client", CLIENTS[3:])
def test_a_call_succeeds_when_the_service_does(
    service: Service, client: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Throttled twice, asked to wait a second each time: the third call comes not before."""
    monkeypatch.setenv("ETL_HOME", str(tmp_path))
    monkeypatch.setenv("ETL_RETRY_WAIT_S_MAX", "1")
    service.statuses, service.headers = [503, 429, 200], {"Retry-After": "1"}
    retry_transient(lambda: client(service.url), "api")
    assert len(service.times) == 3
    assert service.times[-1] - service.times[0] >= 2.0


def test_a_service_that_stays_away_is_given_up(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Bounded: an outage must be told."""
    monkeypatch.setenv("ETL_HOME", str(tmp_path))
    monkeypatch.setenv("ETL_RETRY_WAIT_S_MAX", "0.01")
    monkeypatch.setenv("ETL_RETRY_TRIES", "4")
    with pytest.raises(RestartError, match=r"HTTP 503: .*\. Gave up after 4 tries"):
        retry_transient(lambda: by_requests(service.url), "api")
    assert len(service.times) == 4
