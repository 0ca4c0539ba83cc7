"""A lake of people from every kind of source, whose sensitive values are canaries: they may be found nowhere."""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from etl_resources.object_store import s3_client
from etl_resources.stack.dagster_servers import write_dagster_home
from tests.integration.api_server import Api, page, serving
from tests.lake import PROJECT_DIR, Lake, new_lake
from tests.projects import PEOPLE
from tests.search_target import search_variables

MONTH, KEY = "2024-01", "k" * 40
CANARIES = ("canary", "818200777", "771234999", "1957-03-17")
"""What is in every sensitive text, number, dropped amount and date."""
PLAIN = ("plainbird", "929300888", "882345111", "1968-04-28")
"""The same of people who aren't sensitive."""
COLUMNS = ("id", "email", "ssn", "phone", "born", "salary", "note")
Person = dict[str, Any]


def person(number: int, marks: Sequence[str] = CANARIES, **other: Any) -> Person:
    """Somebody, marked. The note isn't sensitive."""
    text, digits, amount, day = marks
    return {
        "id": number,
        "email": f"Mail-{number}@{text}.test",
        "ssn": int(digits) * 1000 + number,
        "phone": f"+49 {text} {number}",
        "born": day,
        "salary": f"{amount}.{number:02}",
        "note": f"{PLAIN[0]} {number}",
        **other,
    }


class People:
    """The lake and its sources."""

    def __init__(self, lake: Lake, api: Api) -> None:
        self.lake, self.api = lake, api
        endpoint, key, secret = lake.settings.require_s3()
        self._s3: Any = s3_client(endpoint, (key, secret), region="us-east-1", timeout_s=20)
        self._bucket = lake.env["CRM_S3_URL"].rpartition("/")[2]
        self._s3.create_bucket(Bucket=self._bucket)
        lake.erp("create schema erp")

    def put(self, key: str, body: bytes | str) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body.encode() if isinstance(body, str) else body)

    def remove(self, key: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=key)

    def csv(self, *lines: Person | str, header: bool = True) -> None:
        """Visitors; a text is a line as it is."""
        written = [line if isinstance(line, str) else ",".join(str(v) for v in line.values()) for line in lines]
        self.put("visitors/a.csv", "\n".join([*([",".join(COLUMNS)] if header else []), *written, ""]))

    def json_lines(self, dataset: str, *lines: Person | str) -> None:
        """Customers or plain people; a text is a line as it is."""
        written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        self.put(f"{dataset}/a.jsonl", "".join(f"{line}\n" for line in written))

    def parquet(self, people: Sequence[Person], *, ssn: str = "int64") -> None:
        """Devices."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {"id": pa.int64(), "born": pa.date32(), "salary": pa.decimal128(18, 2), "ssn": getattr(pa, ssn)()}
        typed: dict[str, Any] = {"born": date.fromisoformat, "salary": Decimal, "ssn": int if ssn == "int64" else str}
        columns = {c: pa.array([typed.get(c, lambda v: v)(p[c]) for p in people], kinds.get(c)) for c in COLUMNS}
        out = io.BytesIO()
        pq.write_table(pa.table(columns), out)
        self.put("devices/a.parquet", out.getvalue())

    def accounts(self, people: Sequence[Person], *, phone: str = "phone") -> None:
        """A view of the ERP, in which ssn is text. phone: expression of that column."""
        self.lake.erp("drop view if exists erp.accounts")
        self.lake.erp("drop table if exists erp.people")
        self.lake.erp(
            "create table erp.people (id bigint, opened date, email text, ssn text, phone text, born date, "
            "salary numeric(18,2), note text)"
        )
        for p in people:
            values = [p["id"], "2024-01-15", *(p[c] for c in COLUMNS[1:])]
            self.lake.erp(f"insert into erp.people values ({', '.join(['%s'] * 8)})", *values)
        self.lake.erp(
            f"create view erp.accounts as select id, opened, email, ssn, ({phone})::text as phone, born, salary, note "
            "from erp.people"
        )

    def leads(self, *people: Person | str) -> None:
        """A page, and one more behind a cursor."""
        self.api.answers["/leads"] = page({"data": list(people), "next": "canary-cursor"})
        self.api.answers["/leads?after=canary-cursor"] = page({"data": [person(900)]})

    def bronze(self, dataset: str, columns: str = "id, email, ssn, phone, born::text, note") -> list[tuple[Any, ...]]:
        return sorted(self.lake.rows(f"bronze/{dataset}", columns))


@contextmanager
def people_lake(folder: Path) -> Iterator[People]:
    """Empty sources; runs are remembered by Dagster in the lake's own database."""
    with serving() as api, new_lake(folder, scale=None, project=PEOPLE) as lake:
        home = write_dagster_home(lake.home, PROJECT_DIR)
        instance = home / "dagster.yaml"
        instance.write_text(instance.read_text().replace(".etl/", f"{lake.home}/"))
        lake.env |= {
            "CRM_S3_URL": f"s3://crm-{lake.env['ETL_S3_BUCKET']}",
            "SHOP_URL": api.url,
            "HASH_KEY": KEY,
            "DAGSTER_HOME": str(home),
            **search_variables(),
        }
        yield People(lake, api)
