"""What a connection to Elasticsearch is made of, decided before anything is sent."""

import ssl
from pathlib import Path

import elastic_transport
import pytest
from pydantic import SecretStr

from etl_resources.classify import classify
from etl_resources.errors import SettingsError
from etl_resources.settings import Settings
from etl_resources.sinks.elasticsearch_client import connect


def settings(**values: object) -> Settings:
    secret = {k: SecretStr(str(v)) for k, v in values.items() if k.endswith(("key", "password"))}
    return Settings.model_construct(**{"elasticsearch_url": "https://search.example", **values, **secret})  # type: ignore[arg-type]


def test_nothing_goes_readably_to_another_machine_unless_it_is_meant() -> None:
    """A password or a key in plain HTTP is everybody's on the way."""
    with pytest.raises(
        SettingsError, match=r"ETL_ELASTICSEARCH_URL http://search.example:9200 .* ETL_ELASTICSEARCH_VER"
    ):
        connect(settings(elasticsearch_url="http://etl:sesame@search.example:9200"))
    connect(settings(elasticsearch_url="http://search.example:9200", elasticsearch_verify=False)).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "[::1]"])
def test_plain_http_on_this_machine_is_no_secret(host: str) -> None:
    """The embedded server has no certificate, and needs none."""
    connect(settings(elasticsearch_url=f"http://{host}:9200")).close()


def test_a_key_or_a_whole_user_is_given() -> None:
    """Of two credentials one would be ignored silently; half of one lets nobody in."""
    user = {"elasticsearch_username": "etl", "elasticsearch_password": "sesame"}
    for wrong in (
        {"elasticsearch_username": "etl"},
        {"elasticsearch_password": "sesame"},
        {**user, "elasticsearch_api_key": "YTpi"},
    ):
        with pytest.raises(SettingsError, match="Set ETL_ELASTICSEARCH_API_KEY, or both"):
            connect(settings(**wrong))


@pytest.mark.parametrize("key", ["id:sesame", "c2VzYW1l\n", "c2Vz YW1l", ""])
def test_what_is_no_key_is_refused_and_not_shown(key: str) -> None:
    """A line end, as files have it, makes a header that the client refuses with a message that shows it."""
    with pytest.raises(SettingsError, match="ETL_ELASTICSEARCH_API_KEY is no API key") as error:
        connect(settings(elasticsearch_api_key=key))
    assert not key.strip() or key.strip() not in str(error.value)


def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    """Before the first request, not as a certificate that isn't trusted."""
    (tmp_path / "empty.pem").write_text("no certificate")
    for file in (tmp_path / "gone.pem", tmp_path / "empty.pem"):
        with pytest.raises(SettingsError, match=rf"ETL_ELASTICSEARCH_CA_FILE {file} can't be used"):
            connect(settings(elasticsearch_ca_file=file))


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "write http://"),
        ("certificate verify failed: Hostname mismatch, certificate is not valid for 'h'.", "for another name"),
        ("certificate verify failed: IP address mismatch, certificate is not valid for '::1'.", "for another name"),
        ("hostname '127.0.0.1' doesn't match 'search.example'", "for another name"),
        ("certificate verify failed: certificate has expired", "Renew"),
        ("certificate verify failed: unable to get local issuer certificate", "ETL_ELASTICSEARCH_CA_FILE"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_certificate_is_told(reason: str, advice: str) -> None:
    """OpenSSL's words name no setting."""
    error = elastic_transport.TlsError("TLS error")
    error.__cause__ = ssl.SSLError(1, reason)

    known = classify(error)

    assert isinstance(known, SettingsError)
    assert advice in str(known)
