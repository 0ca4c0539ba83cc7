"""Sources that are delivered whole, as random schedules play them: a CRM that drops files, an API of exchange rates.

What they deliver is in the bucket, and in a file that the API answers from; it is compared with what is published.
"""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from etl_resources.conventions import parse_raw_path, raw_location, raw_note_kind
from etl_resources.extract.raw_cleanup import clean_raw_zone
from etl_resources.extract.raw_zone import RecordedDelivery
from etl_resources.ledger.ledger import Ledger
from etl_resources.object_store import ObjectStore
from tests.crm import CrmLake, crm_lake, customer
from tests.fault.scenarios import DELIVERED, Reach
from tests.integration.api_server import Answer, Request, page, serving
from tests.invariants import prove_stores
from tests.lake import Lake, new_lake
from tests.projects import RATES

RATE_MONTHS = ("2024-01", "2024-02", "2024-03")
CURRENCIES = ("JPY", "USD")
EVERYTHING = timedelta(seconds=-5)
"""A guard that keeps nothing: the store's clock tells whole seconds."""


def scenarios(dataset: str, *, served: bool, reject: Callable[[Lake, Random], None]) -> Mapping[str, Reach]:
    """Failpoint → how a run of the dataset's tables gets there."""
    bronze, silver = f"bronze.{dataset}", f"silver.{dataset}"
    tables = Reach((bronze, silver))
    steps = (
        *("stage.recorded", "stage.before_swap", "stage.after_swap", "stage.committed", "audit.passed"),
        *("publish.proved", "publish.before_swap", "publish.after_swap", "publish.committed", "evidence.recorded"),
    )
    planned = (silver, "postgres") if served else (silver,)
    points = {
        **dict.fromkeys(DELIVERED, Reach((bronze,))),
        **dict.fromkeys(("plan.inputs_read", "plan.intended", "plan.recorded"), Reach(planned)),
        **dict.fromkeys(steps, tables),
        "stage.file_written": Reach((silver,)),
        "stage.rejected_kept": Reach((bronze,), change=reject),
        "evidence.recording": Reach(calls=2),
        "settle.fenced": Reach((bronze, silver), killed_at="stage.committed"),
    }
    if not served:
        return points
    serving_points = (
        *("postgres.staging_created", "postgres.copied", "serving.audited", "postgres.before_transaction"),
        *("postgres.locked", "postgres.replaced", "postgres.before_commit", "postgres.after_commit"),
        "postgres.recorded",
    )
    return {
        **points,
        **dict.fromkeys(serving_points, Reach()),
        "postgres.settle_fenced": Reach(killed_at="postgres.before_transaction"),
    }


@contextmanager
def files_lake(folder: Path) -> Iterator[Lake]:
    """Two files."""
    with crm_lake(folder) as crm:
        for number in (1, 2):
            crm.drop(f"{number}.jsonl.gz", _customers(number, Random(number)))
        yield crm.lake


def change_file(lake: Lake, random: Random) -> None:
    """One that is there gets other rows."""
    crm, number = CrmLake(lake), random.choice(_files(lake))
    crm.drop(f"{number}.jsonl.gz", _customers(number, random))


def reject_line(lake: Lake, random: Random) -> None:
    """A file with new rows, and a line that is none."""
    crm, number = CrmLake(lake), random.choice(_files(lake))
    crm.drop(f"{number}.jsonl.gz", [*_customers(number, random), "no JSON"])


def _add_file(lake: Lake, random: Random) -> None:
    number = max(_files(lake)) + 1
    CrmLake(lake).drop(f"{number}.jsonl.gz", _customers(number, random))


def _remove_file(lake: Lake, random: Random) -> None:
    files = _files(lake)
    if len(files) > 1:
        CrmLake(lake).remove(f"{random.choice(files)}.jsonl.gz")


def _deliver_again(lake: Lake, random: Random) -> None:
    """The same rows as other bytes: an alias."""
    crm, number = CrmLake(lake), random.choice(_files(lake))
    key = f"customers/{number}.jsonl.gz"
    body = crm.s3.get_object(Bucket=crm.bucket, Key=key)["Body"].read()
    crm.put(f"{number}.jsonl.gz", body + gzip.compress(b""))


def _nothing(_: Lake, __: Random) -> None:
    """The source stays as it is: everything is pruned, most failpoints aren't reached."""


FILE_CHANGES: Mapping[str, Callable[[Lake, Random], None]] = {
    "a file changes": change_file,
    "a file arrives": _add_file,
    "a file goes": _remove_file,
    "a file comes again": _deliver_again,
    "lines are rejected": reject_line,
    "nothing": _nothing,
}


def prove_files(lake: Lake) -> None:
    """The stores agree, and hold what lies in the bucket."""
    prove_stores(lake)
    CrmLake(lake).prove_right()
    prove_raw_zone(lake, "customers")


def _files(lake: Lake) -> list[int]:
    crm = CrmLake(lake)
    found = crm.s3.list_objects_v2(Bucket=crm.bucket)["Contents"]
    return sorted(int(o["Key"].split("/")[1].split(".")[0]) for o in found)


def _customers(number: int, random: Random) -> list[Any]:
    """Three rows whose keys no other file has."""
    return [customer(10 * number + i, random.randint(0, 10**6)) for i in range(3)]


@contextmanager
def pages_lake(folder: Path) -> Iterator[Lake]:
    """A page a month, of two days."""
    with serving() as api, new_lake(folder, scale=None, project=RATES) as lake:
        lake.env["RATES_URL"] = api.url
        api.answers["*"] = lambda request: _answer(lake, request)
        _write_days(lake, {f"{m}-0{d}": dict.fromkeys(CURRENCIES, f"1.{d}") for m in RATE_MONTHS for d in (4, 5)})
        yield lake


def change_rate(lake: Lake, random: Random) -> None:
    """Another rate, of other digits."""
    days = _rates(lake)
    day = random.choice(sorted(days))
    rate = f"{random.randint(1, 9)}.{random.randint(1, 999_999)}"
    _write_day(lake, day, {**days[day], random.choice(CURRENCIES): rate})


def reject_rate(lake: Lake, random: Random) -> None:
    """A text instead of a rate; another text each time."""
    days = _rates(lake)
    day = random.choice(sorted(days))
    _write_day(lake, day, {**days[day], "USD": f"n/a {random.randint(1, 10**6)}"})


def _add_day(lake: Lake, random: Random) -> None:
    month = random.choice(RATE_MONTHS)
    _write_day(lake, f"{month}-{random.randint(1, 28):02}", dict.fromkeys(CURRENCIES, f"2.{random.randint(1, 999)}"))


def _remove_day(lake: Lake, random: Random) -> None:
    days = _rates(lake)
    if len(days) > 1:
        _write_day(lake, random.choice(sorted(days)), None)


def _stumble(lake: Lake, random: Random) -> None:
    """A rate changes, and the API is throttled or cut off at first."""
    change_rate(lake, random)
    (lake.home / "stumbles").write_text("x" * random.randint(1, 3))


PAGE_CHANGES: Mapping[str, Callable[[Lake, Random], None]] = {
    "a rate changes": change_rate,
    "a day arrives": _add_day,
    "a day goes": _remove_day,
    "a rate is no number": reject_rate,
    "the API stumbles": _stumble,
    "nothing": _nothing,
}


def prove_pages(lake: Lake) -> None:
    """The stores agree, and hold the rates that are numbers."""
    prove_stores(lake)
    expected = {
        (day, currency, Decimal(rate))
        for day, rates in _rates(lake).items()
        for currency, rate in rates.items()
        if not rate.startswith("n/a")
    }
    for table in ("bronze/currency_rates", "silver/currency_rates"):
        assert set(lake.rows(table, "rate_date::text, currency, rate")) == expected, table
    prove_raw_zone(lake, "currency_rates")


def prove_raw_zone(lake: Lake, dataset: str) -> None:
    """After a cleaning it holds every published delivery whole, and nothing that a dead run landed."""
    node, store = lake.runtime.project.tables[f"bronze.{dataset}"], _raw(lake)
    with Ledger.open(lake.settings) as ledger:
        done = clean_raw_zone(store, ledger, *node.captured_in, older_than=EVERYTHING)
    assert done.notes == []
    there = {o.path for o in store.list(dataset)}
    recorded = {p for (p,) in lake.platform(
        "select staged ->> 'raw' from etl.publishes join etl.intent_partitions using (attempt, partition, epoch) "
        "where asset = %s", node.name)}  # fmt: skip
    records = {path for path in there if raw_note_kind(path) == "delivery"}
    assert records == recorded
    named = {path for record in records for path in RecordedDelivery.parse(record, store.read(record)).objects}
    assert {path for path in there if parse_raw_path(path)} == named


def _raw(lake: Lake) -> ObjectStore:
    return ObjectStore.of(lake.runtime.store.catalog, raw_location(lake.runtime.bucket))


def _answer(lake: Lake, request: Request) -> Answer:
    stumbles = lake.home / "stumbles"
    if stumbles.exists() and (left := stumbles.read_text()):
        stumbles.write_text(left[1:])
        return Answer(b"", 429, {"Retry-After": "0.1"}) if len(left) % 2 else Answer(b"{}" * 50, sent_bytes=9)
    month = request.path.removeprefix("/v1/")[:7]
    days = {day: rates for day, rates in _rates(lake).items() if day.startswith(month)}
    return page({"rates": days})


def _rates(lake: Lake) -> dict[str, dict[str, str]]:
    """Day → currency → rate."""
    found: dict[str, dict[str, str]] = json.loads((lake.home / "rates.json").read_text())
    return found


def _write_day(lake: Lake, day: str, rates: dict[str, str] | None) -> None:
    days = {d: r for d, r in _rates(lake).items() if d != day}
    _write_days(lake, {**days, day: rates} if rates else days)


def _write_days(lake: Lake, days: Mapping[str, Mapping[str, str]]) -> None:
    """Whole at once: the API may be asked meanwhile."""
    fresh = lake.home / "rates.new"
    fresh.write_text(json.dumps(days))
    fresh.replace(lake.home / "rates.json")
