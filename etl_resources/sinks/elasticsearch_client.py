"""A connection to Elasticsearch, embedded or a real cluster: TLS and credentials from the settings, one try a call.

    with connect(load_settings()) as search:
        retry_transient(lambda: search.indices.refresh(index="orders"), "elasticsearch.orders")

What it raises is classified by etl_resources.classify; retries are those of etl_resources.retries, never the client's
own, which would send a write again whose answer was lost.
"""

import ipaddress
import json
import logging
import re
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from etl_resources.errors import SettingsError
from etl_resources.settings import Settings

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

CONNECTIONS = 4
"""Requests in flight of one client, at most: more wait for a free connection."""
_KEY = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_PAGE = b'{"pit_id":'
_SILENT = logging.NullHandler()
"""Else Python prints the client's warnings of failed calls to stderr; what they say is in the error."""


def connect(settings: Settings, *, timeout_s: float | None = None, exact: bool = False) -> "Elasticsearch":
    """A client; nothing is sent yet. `timeout_s`: longest wait for one request, else the setting's.

    exact: numbers with a point in answers stay text with all their digits, instead of floats; a page of a point in time
    stays bytes, which elasticsearch_pages reads.

    Raises SettingsError when no Elasticsearch is known, its address is none or would carry everything readably over a
    network, credentials are given by halves or twice, or the file of its CA can't be used.
    """
    from elasticsearch import Elasticsearch
    from elasticsearch.serializer import OrjsonSerializer

    class ExactSerializer(OrjsonSerializer):
        def json_loads(self, data: bytes) -> Any:
            return data if data.startswith(_PAGE) else json.loads(data, parse_float=str)

    url = settings.require_elasticsearch()
    logging.getLogger("elastic_transport").addHandler(_SILENT)
    try:
        return Elasticsearch(
            url,
            request_timeout=timeout_s or settings.elasticsearch_timeout_s,
            max_retries=0,
            retry_on_timeout=False,
            connections_per_node=CONNECTIONS,
            serializer=ExactSerializer() if exact else OrjsonSerializer(),
            **_credentials(settings),
            **_tls(settings, url),
        )
    except ValueError:  # its text may carry a password of the address
        raise SettingsError(
            f"ETL_ELASTICSEARCH_URL {address_of(url)} is no address. Write http://host:port or https://host:port."
        ) from None


def _credentials(settings: Settings) -> dict[str, Any]:
    key, user, password = (
        settings.elasticsearch_api_key,
        settings.elasticsearch_username,
        settings.elasticsearch_password,
    )
    if (user is None) != (password is None) or (key is not None and user is not None):
        raise SettingsError(
            "Set ETL_ELASTICSEARCH_API_KEY, or both ETL_ELASTICSEARCH_USERNAME and ETL_ELASTICSEARCH_PASSWORD."
        )
    if key is not None:
        if not _KEY.fullmatch(key.get_secret_value()):  # a line end in a header ends in an error that shows the header
            raise SettingsError(
                "ETL_ELASTICSEARCH_API_KEY is no API key (it isn't shown here). Give it as Elasticsearch encodes it: "
                "one word, the base64 of id:key."
            )
        return {"api_key": key.get_secret_value()}
    return {"basic_auth": (user, password.get_secret_value())} if user and password else {}


def _tls(settings: Settings, url: str) -> dict[str, Any]:
    """How the server's certificate is verified: by the CA file or certifi's, unless verification was switched off."""
    if not url.startswith("https:"):
        if url.startswith("http:") and settings.elasticsearch_verify and not _is_here(url):
            raise SettingsError(
                f"ETL_ELASTICSEARCH_URL {address_of(url)} would send credentials and data readably to another machine. "
                "Write https://, or set ETL_ELASTICSEARCH_VERIFY=false where that is meant."
            )
        return {}
    if not settings.elasticsearch_verify:
        return {"verify_certs": False, "ssl_show_warn": False}
    ca_file = settings.elasticsearch_ca_file
    if ca_file is None:
        return {"verify_certs": True}
    try:
        ssl.create_default_context(cafile=ca_file)
    except OSError as e:
        raise SettingsError(
            f"ETL_ELASTICSEARCH_CA_FILE {ca_file} can't be used: {e.strerror}. Name a file of PEM certificates."
        ) from e
    return {"verify_certs": True, "ca_certs": str(ca_file)}


def _is_here(url: str) -> bool:
    """Whether what is sent there stays on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def address_of(url: str) -> str:
    """The address without credentials that somebody may have put into it."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return "(not shown: it has no scheme http or https)"
    return f"{parts.scheme}://{parts.hostname}:{port}"
