"""TLS and API keys: what crosses a network is proved and readable for nobody else (against a real server).

The embedded server speaks plain HTTP on loopback and can't make keys (docs/settings.md): a proxy in front of it speaks
TLS, and puts the platform's user in the place of the one key that it knows. Whatever else is sent reaches the server.
"""

import base64
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from etl_resources.errors import DataPipelineError, SettingsError, TransientError
from etl_resources.settings import Settings
from etl_resources.stack.external import ExternalElasticsearch
from tests.certificates import Authority, new_authority
from tests.fault.http_proxy import FaultyProxy, faulty
from tests.search_target import Rows, SearchTarget

pytest_plugins = ["tests.search_target"]

MakeTarget = Callable[[str], SearchTarget]
HERE = "127.0.0.1"
KEY = base64.b64encode(b"VuaCfGcBCdbkQm-e5aOx:ui2lp2axTNmsyakw9tvNnw").decode()
USER = ("ETL_ELASTICSEARCH_USERNAME", "ETL_ELASTICSEARCH_PASSWORD")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("authority"), "ours")


@pytest.fixture(scope="module")
def target(make_target: MakeTarget) -> SearchTarget:
    return make_target("replace")


@contextmanager
def secured(target: SearchTarget, authority: Authority, name: str = HERE) -> Iterator[FaultyProxy]:
    """The server behind TLS, with a certificate for this name."""
    user, password = (target.env[variable] for variable in USER)
    basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    server = target.env["ETL_ELASTICSEARCH_URL"]
    with faulty(server, lambda *_: None, tls=authority.server(name), credentials={f"ApiKey {KEY}": basic}) as proxy:
        yield proxy


def with_key(target: SearchTarget, url: str, authority: Authority | None, key: str = KEY) -> SearchTarget:
    """The same target, reached with a key instead of the user."""
    ca = {"ETL_ELASTICSEARCH_CA_FILE": str(authority.file)} if authority else {}
    others = {name: value for name, value in target.env.items() if name not in USER}
    return replace(target, env={**others, **ca, "ETL_ELASTICSEARCH_URL": url, "ETL_ELASTICSEARCH_API_KEY": key})


def refusal(settings: Settings) -> DataPipelineError:
    with pytest.raises(DataPipelineError) as found:
        ExternalElasticsearch(settings).check()
    return found.value


def test_a_partition_is_published_and_reread_through_tls_with_a_key(
    make_target: MakeTarget, authority: Authority
) -> None:
    """A real cluster has no other door: the authority's file and the key are all that it takes."""
    rows = {"2024-01": Rows(40, 3), "2024-02": Rows(20, 5)}
    target = make_target("upsert")

    with secured(target, authority) as proxy:
        through = with_key(target, proxy.url, authority)
        done = through.serve(rows)
        through.prove_whole(rows)

    assert (done.published, done.errors) == ([*rows], [])
    assert proxy.asked > len(rows)


@pytest.mark.parametrize("given", ["none", "another"])
def test_a_certificate_of_an_unknown_authority_is_refused(
    target: SearchTarget, authority: Authority, tmp_path: Path, given: str
) -> None:
    """Else anybody on the way could answer in the server's place; retries don't help, a setting does."""
    trusted = new_authority(tmp_path, "another") if given == "another" else None

    with secured(target, authority) as proxy:
        error = refusal(with_key(target, proxy.url, trusted).settings)

    assert isinstance(error, SettingsError)
    assert "ETL_ELASTICSEARCH_CA_FILE" in str(error)
    assert proxy.asked == 0


def test_a_certificate_for_another_name_is_refused(target: SearchTarget, authority: Authority) -> None:
    """It proves who somebody else is."""
    with secured(target, authority, "search.example") as proxy:
        error = refusal(with_key(target, proxy.url, authority).settings)

    assert isinstance(error, SettingsError)
    assert "certificate is for another name" in str(error)
    assert proxy.asked == 0


def test_verification_can_be_left_out_on_purpose(target: SearchTarget, authority: Authority) -> None:
    """For a cluster on trial whose certificate nobody signed."""
    with secured(target, authority, "search.example") as proxy:
        through = with_key(target, proxy.url, None)
        trusting = replace(through, env={**through.env, "ETL_ELASTICSEARCH_VERIFY": "false"})
        ExternalElasticsearch(trusting.settings).check()


def test_the_wrong_scheme_is_told(target: SearchTarget, authority: Authority) -> None:
    """The slip of every first configuration, with errors that speak of records and closed connections."""
    plain = target.env["ETL_ELASTICSEARCH_URL"]
    error = refusal(with_key(target, plain.replace("http:", "https:"), authority).settings)
    assert isinstance(error, SettingsError)
    assert "write http:// in ETL_ELASTICSEARCH_URL" in str(error)

    with secured(target, authority) as proxy:
        error = refusal(with_key(target, proxy.url.replace("https:", "http:"), authority).settings)
    assert isinstance(error, TransientError)  # a server that dies hangs up in the same way
    assert "a server that wants https://" in str(error)


def test_a_wrong_key_is_refused_without_being_shown(
    target: SearchTarget, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs are read by more people than keys are for; the user of the embedded server isn't sent instead."""
    secret = base64.b64encode(b"somebody:sesame-open").decode()
    caplog.set_level(logging.DEBUG)

    with secured(target, authority) as proxy:
        through = with_key(target, proxy.url, authority, secret)
        error = refusal(through.settings)
        done = through.serve({"all": Rows(1)})

    assert isinstance(error, SettingsError)
    assert "HTTP 401" in str(error)
    assert "ETL_ELASTICSEARCH_API_KEY" in str(error)
    assert done.published == []
    told = f"{error!r} {done} {through.settings!r} {caplog.text}"
    assert secret not in told
    assert "sesame-open" not in told
