"""Errors of Elasticsearch's client, by the line of docs/operations/retries.md that they belong to.

Made as the client makes them; texts and reasons were copied from a server's answers
(tests/integration/test_elasticsearch_client.py raises the transport's again).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import elastic_transport
import elasticsearch
import urllib3.exceptions

from etl_resources.elasticsearch_errors import of_status

Make = Callable[[], BaseException]


def answer(status: int, kind: str = "some_exception", reason: str = "the server's reason") -> Make:
    """The error of an answer with this status."""
    body = {
        "error": {"root_cause": [{"type": kind, "reason": reason}], "type": kind, "reason": reason},
        "status": status,
    }
    node = elastic_transport.NodeConfig("http", "h", 9200)
    meta = elastic_transport.ApiResponseMeta(status, "1.1", elastic_transport.HttpHeaders(), 0.1, node)
    error = elasticsearch.exceptions.HTTP_EXCEPTIONS.get(status, elasticsearch.ApiError)
    return lambda: error(kind, meta, body)


def transport(error: type[Exception], text: str, cause: BaseException) -> Make:
    """An error without an answer: the client's own text says little, its cause more."""

    def make() -> BaseException:
        made: Any = error(text)
        made.__cause__ = cause
        return made

    return make


_POOL: Any = None
_REFUSED = urllib3.exceptions.NewConnectionError(_POOL, "Failed to establish a new connection: [Errno 111] …")
_CONNECT = urllib3.exceptions.ConnectTimeoutError("Connection to h timed out. (connect timeout=60)")
_NAME_SERVER = urllib3.exceptions.NameResolutionError("h", _POOL, OSError(-3, "Temporary failure in name resolution"))
_NO_NAME = urllib3.exceptions.NameResolutionError("h", _POOL, OSError(-2, "Name or service not known"))
_CUT = urllib3.exceptions.ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset by peer"))
_READ = urllib3.exceptions.ReadTimeoutError(_POOL, "/", "Read timed out. (read timeout=60)")
_CERTIFICATE = urllib3.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")

ELASTICSEARCH_CASES: Mapping[str, Sequence[Make]] = {
    "overloaded or not ready (429, 502, 503, 504), of a request or of one document of a bulk": [
        answer(429, "es_rejected_execution_exception"), answer(503, "cluster_block_exception"),
        answer(502), answer(504),
        lambda: of_status(429, "es_rejected_execution_exception: rejected execution of coordinating operation"),
        lambda: of_status(503, "unavailable_shards_exception: primary shard is not active"),
    ],
    "no connection to Elasticsearch: refused, time-out, name server away": [
        transport(elastic_transport.ConnectionError, "Connection error", _REFUSED),
        transport(elastic_transport.ConnectionTimeout, "Connection timed out", _CONNECT),
        transport(elastic_transport.ConnectionError, "Connection error", _NAME_SERVER),
    ],
    "no answer to a write, or one of 408, 500, 502, 503, 504": [
        transport(elastic_transport.ConnectionError, "Connection error", _CUT),
        transport(elastic_transport.ConnectionTimeout, "Connection timed out", _READ),
        *(answer(status) for status in (408, 500, 502, 503, 504)),
    ],
    "an answer that can't be read": [
        lambda: elastic_transport.SerializationError("Unable to deserialize as JSON: b'{\"took\": 1, \"err'")
    ],
    "401, 403: key, user or rights": [
        answer(401, "security_exception"), answer(403, "security_exception"),
        lambda: of_status(403, "security_exception: action is unauthorized"),
    ],
    "certificate not trusted by Elasticsearch's client, no such host, not an Elasticsearch": [
        transport(elastic_transport.TlsError, "TLS error", _CERTIFICATE),
        transport(elastic_transport.ConnectionError, "Connection error", _NO_NAME),
        lambda: elasticsearch.UnsupportedProductError("not Elasticsearch", meta=_POOL, body=None),
    ],
    "its disk is almost full: index made read-only (429 with that reason)": [
        answer(429, "cluster_block_exception", "index [a] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded "
               "flood-stage watermark, index has read-only-allow-delete block; for more information see …];"),
    ],
    "other 4xx: mapping, missing index, version conflict": [
        answer(400, "strict_dynamic_mapping_exception"), answer(404, "index_not_found_exception"),
        answer(409, "version_conflict_engine_exception"), answer(413),
        lambda: of_status(400, "document_parsing_exception: failed to parse field [x] of type [long]"),
    ],
}  # fmt: skip
