"""Real exceptions of the libraries that we use, by the line of docs/operations/retries.md that they belong to.

Texts were copied from the servers' and libraries' own answers (tests/integration/test_retries_over_http.py raises the
HTTP ones again).
"""

import email.message
import errno
import sqlite3
import ssl
import urllib.error
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import botocore.exceptions as boto
import duckdb
import httpx
import psycopg
import psycopg2
import psycopg2.errors
import requests
import sqlalchemy.exc

from etl_resources.errors import (
    DataPipelineError,
    FencedError,
    ManifestError,
    PermanentError,
    RestartError,
    RetryBudgetError,
)
from etl_resources.tables.commit import ConflictError
from tests.unit.elasticsearch_errors import ELASTICSEARCH_CASES

Make = Callable[[], BaseException]
_TOO_MANY = "too many retries for DB connection"
_LOST = "consuming input failed: server closed the connection unexpectedly\n\tThis probably means …"
_REFUSED = 'connection failed: connection to server at "127.0.0.1", port 1 failed: Connection refused\n\tIs the …'
_PASSWORD = 'connection to server at "h", port 5 failed: FATAL:  password authentication failed for user "etl"'
_CERTIFICATE = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)"


class DagsterPostgresException(Exception):  # noqa: N818  (Dagster's name)
    """Stands in for Dagster's, which is slow to import: test_retries_of_events has the real one."""

    __module__ = "dagster_postgres.utils"


def pg(state: str) -> Make:
    """psycopg's error of a code."""
    return lambda: psycopg.errors.lookup(state)("the server's message")


def pg2(state: str) -> Make:
    """The same in psycopg2 under SQLAlchemy: the catalog's and Dagster's."""

    def make() -> BaseException:
        origin = psycopg2.errors.lookup(state)("the server's message\n")
        origin.__setstate__({"pgcode": state})
        return sqlalchemy.exc.OperationalError("update runs", {}, origin)

    return make


def codes(*states: str) -> list[Make]:
    return [make(state) for state in states for make in (pg, pg2)]


def without_code(text: str) -> list[Make]:
    """A failed or lost connection, in both drivers."""
    return [
        lambda: psycopg.OperationalError(text),
        lambda: sqlalchemy.exc.OperationalError("select 1", {}, psycopg2.OperationalError(text)),
    ]


def s3(code: str, status: int) -> Make:
    """boto3's error."""
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}}}
    return lambda: boto.ClientError(answer, "PutObject")


def engine(text: str) -> Make:
    """DuckDB's error of an HTTP status, told in its text."""
    return lambda: duckdb.HTTPException(text)


def arrow(text: str) -> Make:
    """PyArrow's: an OSError that says what AWS' client said."""
    return lambda: OSError(f"When reading information for key '403/NoSuchBucket' in bucket 'b': {text}")


def http(status: int) -> list[Make]:
    """One status in three clients."""
    request = httpx.Request("GET", "https://api.example.com/v1")
    answer = requests.Response()
    answer.status_code = status
    headers = email.message.Message()
    return [
        lambda: httpx.HTTPStatusError("x", request=request, response=httpx.Response(status, request=request)),
        lambda: requests.HTTPError("x", response=answer),
        lambda: urllib.error.HTTPError("https://api.example.com/v1", status, "x", headers, None),
    ]


def statuses(*numbers: int) -> list[Make]:
    return [make for n in numbers for make in http(n)]


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


CASES: Mapping[str, Sequence[Make]] = {
    "no connection: refused, starting up, shutting down (57P03)": [
        *without_code(_REFUSED),
        *without_code('connection to server at "h", port 5 failed: FATAL:  the database system is starting up'),
        *without_code("connection timeout expired"),
        *without_code("[Errno -3] Temporary failure in name resolution"),
        lambda: psycopg.errors.ConnectionTimeout("connection timeout expired"),
        *codes("57P03"),
    ],
    "too many connections, out of memory (53300, 53200)": [
        *codes("53300", "53200"),
        *without_code("FATAL:  sorry, too many clients already"),
    ],
    "connection lost in a session (08006, 57P01, 57P02)": [
        lambda: _in_session(psycopg.OperationalError(_LOST)),
        lambda: _in_session(psycopg.errors.AdminShutdown("terminating connection due to administrator command")),
        lambda: _in_session(psycopg.errors.CrashShutdown("terminating connection because of crash")),
        lambda: _in_session(psycopg.errors.ConnectionFailure("connection failure")),
        lambda: _in_session(psycopg.InterfaceError("the connection is closed")),
    ],
    "connection lost after COMMIT was sent": [
        *without_code(_LOST),
        *without_code("SSL SYSCALL error: EOF detected"),
        *codes("08006", "57P01"),
    ],
    "outcome told to be unknown (08007, 40003)": codes("08007", "40003"),
    "serialization failure, deadlock (40001, 40P01)": codes("40001", "40P01"),
    "lock or statement took too long, object in use (55P03, 57014, 55006)": codes("55P03", "57014", "55006"),
    "server became read-only in a fail-over (25006)": codes("25006"),
    "source lost while the engine reads its snapshot": [
        lambda: duckdb.IOException("IO Error: Reading from Postgres: server closed the connection unexpectedly"),
        lambda: duckdb.Error('Failed to execute query "SET TRANSACTION SNAPSHOT \'0-1\'" on Postgres: '
                             'ERROR:  invalid snapshot identifier: "0-1"'),
        lambda: duckdb.IOException("IO Error: Unable to connect to Postgres at \"host=h\": Connection refused"),
    ],
    "disk full, configured limit (53100, 53400)": [
        *codes("53100", "53400"),
        *without_code('ERROR:  could not extend file "base/5/16": No space left on device'),
    ],
    "user, password or database refused (28P01, 28000, 3D000)": [
        *codes("28P01", "28000", "3D000"),
        *without_code(_PASSWORD),
        *without_code('connection to server at "h", port 5 failed: FATAL:  database "nowhere" does not exist'),
        lambda: duckdb.IOException(f'IO Error: Unable to connect to Postgres at "host=h": {_PASSWORD}'),
    ],
    "certificate not trusted, TLS refused, no such host": [
        *without_code('connection to server at "h", port 5 failed: SSL error: certificate verify failed'),
        *without_code('connection to server at "h", port 5 failed: server does not support SSL, but SSL was required'),
        *without_code("[Errno -2] Name or service not known"),
    ],
    "any other code (22, 23, 42 …)": codes("22012", "23505", "42P01", "42501", "08P01", "57P04", "XX001"),
    "500, 502, 503 SlowDown, 504, 429, RequestTimeout": [
        s3("InternalError", 500), s3("BadGateway", 502), s3("SlowDown", 503), s3("GatewayTimeout", 504),
        s3("TooManyRequests", 429), s3("RequestTimeout", 400), s3("ThrottlingException", 400),
        engine("HTTP Error: Request returned HTTP 503 for HTTP PUT to 'http://h:1/b/404.parquet'"),
        engine("HTTP Error: Request returned HTTP 429 for HTTP HEAD to 'http://h:1/b/403.parquet'"),
        engine("HTTP Error: Request returned HTTP 500 for HTTP HEAD to 'http://h:1/b/500.parquet'"),
        arrow("AWS Error SLOW_DOWN during CreateMultipartUpload operation: reduce your request rate"),
        arrow("AWS Error UNKNOWN (HTTP status 429) during HeadObject operation: No response body."),
        arrow("AWS Error UNKNOWN (HTTP status 500) during HeadObject operation: No response body."),
    ],
    "no connection, connection reset, time-out": [
        lambda: boto.EndpointConnectionError(endpoint_url="http://h:1"),
        lambda: boto.ConnectTimeoutError(endpoint_url="http://h:1"),
        lambda: boto.ReadTimeoutError(endpoint_url="http://h:1"),
        lambda: boto.ConnectionClosedError(endpoint_url="http://h:1"),
        lambda: duckdb.IOException("IO Error: Could not connect to server error for HTTP HEAD to 'http://h:1/b/4.parquet'"),
        lambda: duckdb.IOException("IO Error: Timeout was reached error for HTTP GET to 'http://h:1/b/503.parquet'"),
        arrow("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7, Could not connect to server"),
        lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        lambda: TimeoutError("timed out"),
    ],
    "no answer to a conditional write": [
        lambda: boto.ReadTimeoutError(endpoint_url="http://h:1"),
        lambda: boto.ConnectionClosedError(endpoint_url="http://h:1"),
        s3("InternalError", 500),
        arrow("AWS Error NETWORK_CONNECTION during PutObject operation: curlCode: 52, Server returned nothing"),
    ],
    "write conflicts with another one (409)": [s3("ConditionalRequestConflict", 409), s3("OperationAborted", 409)],
    "401, 403, wrong key or signature, clock skewed": [
        s3("AccessDenied", 403), s3("InvalidAccessKeyId", 403), s3("SignatureDoesNotMatch", 403),
        s3("RequestTimeTooSkewed", 403), s3("Unauthorized", 401),
        engine("HTTP Error: HTTP GET error reading 'http://h:1/b/5.parquet' in region '' (HTTP 403 Forbidden)"),
        engine("HTTP Error: Unable to connect to URL s3://b/5.parquet: Forbidden (HTTP code 403)"),
        arrow("AWS Error ACCESS_DENIED during HeadObject operation: No response body."),
    ],
    "no such bucket": [
        s3("NoSuchBucket", 404),
        lambda: OSError("When initiating multiple part upload for key 'k' in bucket 'b': "
                        "AWS Error NO_SUCH_BUCKET during CreateMultipartUpload operation: The bucket does not exist"),
    ],
    "no such object (404)": [
        s3("NoSuchKey", 404),
        engine("HTTP Error: HTTP GET error on 's3://b/503.parquet' in region '' (HTTP 404 Not Found)"),
        lambda: FileNotFoundError(errno.ENOENT, "Path does not exist 'b/503'"),
    ],
    "no such file on this machine": [
        lambda: FileNotFoundError(errno.ENOENT, "No such file or directory", "/p/dagster.yaml"),
    ],
    "any other 4xx": [s3("PreconditionFailed", 412), s3("InvalidPart", 400), s3("EntityTooLarge", 400)],
    "certificate not trusted by S3's client": [
        lambda: boto.SSLError(endpoint_url="https://h", error=_CERTIFICATE),
        lambda: duckdb.IOException("IO Error: SSL peer certificate or SSH remote key was not OK error for HTTP HEAD"),
        arrow("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 60, SSL peer certificate"),
    ],
    "no space left in S3 or in the spill folder": [
        lambda: OSError(errno.ENOSPC, "No space left on device"),
        lambda: duckdb.IOException('IO Error: Could not write file "/spill/x": No space left on device'),
        engine("HTTP Error: HTTP PUT error (HTTP 500): no free volumes left"),
    ],
    "engine out of memory": [lambda: duckdb.OutOfMemoryException("failed to allocate data of size 1 MiB")],
    **ELASTICSEARCH_CASES,
    "408, 423, 425, 429, 500, 502, 503, 504": statuses(408, 423, 425, 429, 500, 502, 503, 504),
    "time-out, connection refused, reset or cut, name server away": [
        lambda: httpx.ConnectTimeout("timed out"), lambda: httpx.ReadTimeout("timed out"),
        lambda: httpx.ConnectError("[Errno -3] Temporary failure in name resolution"),
        lambda: httpx.RemoteProtocolError("peer closed connection without sending complete message body"),
        lambda: requests.ConnectTimeout("timed out"), lambda: requests.ReadTimeout("timed out"),
        lambda: requests.ConnectionError("('Connection aborted.', ConnectionResetError(104, 'reset'))"),
        lambda: requests.exceptions.ChunkedEncodingError("Connection broken: IncompleteRead"),
        lambda: urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")),
    ],
    "401, 403, 407": statuses(401, 403, 407),
    "other 4xx": statuses(400, 404, 410, 422),
    "certificate not trusted, no such host name": [
        lambda: httpx.ConnectError(_CERTIFICATE),
        lambda: requests.exceptions.SSLError(_CERTIFICATE),
        lambda: urllib.error.URLError(ssl.SSLCertVerificationError(1, _CERTIFICATE)),
        lambda: caused(httpx.ConnectError("all connections failed"), OSError(-2, "Name or service not known")),
    ],
    "its Postgres is away": [
        lambda: sqlalchemy.exc.OperationalError("insert", {}, psycopg2.OperationalError(_REFUSED)),
        lambda: caused(DagsterPostgresException(_TOO_MANY), without_code(_REFUSED)[1]()),
        lambda: DagsterPostgresException(_TOO_MANY),
    ],
    "an event's insert got no answer": [
        lambda: sqlalchemy.exc.OperationalError("insert into event_logs", {}, psycopg2.OperationalError(_LOST)),
        pg2("57P01"),
    ],
    "no connection of its pool is free": [
        lambda: sqlalchemy.exc.TimeoutError("QueuePool limit of size 1 overflow 20 reached, connection timed out")
    ],
    "its SQLite file is locked": [
        lambda: sqlalchemy.exc.OperationalError("insert", {}, sqlite3.OperationalError("database is locked"))
    ],
    "table changed during the commit": [lambda: ConflictError("gdp.gdp_sales: the table changed during the commit.")],
    "inputs or neighbours changed since they were read": [lambda: RestartError("gdp.gdp_sales: 2024-03 changed.")],
    "bounds of one call reached": [lambda: RestartError("S3: no answer. Gave up after 10 tries in 31 s.")],
    "attempt fenced by a newer one or by recovery": [lambda: FencedError("branch wap-1 is gone")],
    "audit failed, contract or manifest wrong": [
        lambda: PermanentError("2024-03 failed its audit"),
        lambda: ManifestError("no key", file="manifest.yaml", line=3),
    ],
    "budget of the run spent": [lambda: RetryBudgetError("the run has spent its retry budget")],
}  # fmt: skip
"""Line → how to make each of its errors."""


def _in_session(error: BaseException) -> BaseException:
    """What a session of ours makes of it."""
    from etl_resources.ledger.connection import typed_errors

    try:
        with typed_errors("The ledger"):
            raise error
    except DataPipelineError as e:
        return e
