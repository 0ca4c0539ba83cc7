"""The demo's HTTP API: euro rates in the form of the public Frankfurter service, on loopback only.

    python -m etl_assets.demo.rates_server --port 8123 --additions .etl/demo/rates.csv
    curl 'http://127.0.0.1:8123/v1/2024-05-01..2024-05-31?base=EUR'

The same paths and answers as https://api.frankfurter.dev, so that the address is all that differs. As there, a range
begins with the last day at or before its start that has rates: ranges that follow each other share a day.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from etl_assets.demo.rates import Rates, make_additions_file, published_rates
from etl_resources.errors import PermanentError
from etl_resources.stack.companion import Companion

LOOPBACK = "127.0.0.1"
HEALTH_PATH = "/v1/currencies"
IDLE_TIMEOUT_S = 30
ADDRESS_SECRET = "RATES_URL"  # noqa: S105  (a name)
ADDITIONS_FILE = Path("demo") / "rates.csv"
"""Below ETL_HOME."""
_DAY = r"\d{4}-\d{2}-\d{2}"
_RANGE = re.compile(rf"/v1/({_DAY})\.\.({_DAY})?")
_ONE_DAY = re.compile(rf"/v1/({_DAY})")
_BASE = "EUR"


class NotFoundError(Exception):
    """No such path, or no rates."""


def rates_companion(home: Path) -> Companion:
    """The server as a companion of the embedded stack, with an additions file for a person to edit."""
    additions = home.resolve() / ADDITIONS_FILE
    make_additions_file(additions)
    return Companion(
        name="rates",
        module="etl_assets.demo.rates_server",
        arguments=("--additions", str(additions)),
        health_path=HEALTH_PATH,
        secret=ADDRESS_SECRET,
    )


def answer(target: str, rates: Rates, today: date) -> str:
    """The JSON text for a request target such as /v1/latest?symbols=USD. Raises NotFoundError or ValueError."""
    url = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    if unknown := sorted(set(query) - {"base", "symbols"}):
        raise ValueError(f"{unknown[0]} is not served here: base, symbols")
    if query.get("base", _BASE).upper() != _BASE:
        raise ValueError(f"base {query['base']} is not served here: {_BASE}")
    symbols = set(query["symbols"].upper().split(",")) if "symbols" in query else None
    if url.path == "/v1/currencies":
        known = {_BASE, *(currency for day in rates.on(today).values() for currency in day)}
        return json.dumps({currency: currency for currency in sorted(known)})
    if found := _RANGE.fullmatch(url.path):
        start, end = date.fromisoformat(found[1]), date.fromisoformat(found[2]) if found[2] else today
        days = _only(rates.between(start, end) if start <= today else {}, symbols)
        return _text({"start_date": min(days), "end_date": max(days)}, _days(days))
    if url.path in ("/v1/latest", "/v1/current"):
        days = _only(rates.on(today), symbols)
    elif found := _ONE_DAY.fullmatch(url.path):
        wanted = date.fromisoformat(found[1])
        days = _only(rates.on(wanted) if wanted <= today else {}, symbols)
    else:
        raise NotFoundError
    return _text({"date": min(days)}, _rates(days[min(days)]))


def _only(days: Mapping[date, Mapping[str, str]], symbols: set[str] | None) -> Mapping[date, Mapping[str, str]]:
    kept = {day: {c: r for c, r in rates.items() if symbols is None or c in symbols} for day, rates in days.items()}
    kept = {day: rates for day, rates in kept.items() if rates}
    if not kept:
        raise NotFoundError
    return kept


def _text(dates: Mapping[str, date], rates: str) -> str:
    head = {"base": _BASE, **{name: day.isoformat() for name, day in dates.items()}}
    return f'{{"amount":1.0,{json.dumps(head)[1:-1]},"rates":{rates}}}'


def _days(days: Mapping[date, Mapping[str, str]]) -> str:
    return "{" + ",".join(f'"{day.isoformat()}":{_rates(rates)}' for day, rates in days.items()) + "}"


def _rates(rates: Mapping[str, str]) -> str:
    """A JSON object with the digits as they were published: a float would change some."""
    return "{" + ",".join(f'"{currency}":{rate}' for currency, rate in rates.items()) + "}"


class RatesServer(ThreadingHTTPServer):
    """Serves as soon as serve_forever() is called. `additions`: CSV file, read again with each request."""

    daemon_threads = True

    def __init__(self, port: int, additions: Path) -> None:
        self.additions = additions
        super().__init__((LOOPBACK, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: the second would wait for the client to confirm the first
    timeout = IDLE_TIMEOUT_S
    server: RatesServer

    def do_GET(self) -> None:
        try:
            today = datetime.now(UTC).date()
            self._send(200, answer(self.path, published_rates(self.server.additions), today))
        except NotFoundError:
            self._send(404, json.dumps({"message": "not found"}))
        except (ValueError, PermanentError) as e:
            self._send(422, json.dumps({"message": str(e)}))

    def _send(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (http.server)
        """Silent: a line per request would fill the log of a server that lives for weeks."""


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until the process is told to end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--additions", type=Path, required=True, help="CSV file: date,currency,rate")
    arguments = parser.parse_args(argv)
    with RatesServer(arguments.port, arguments.additions) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
