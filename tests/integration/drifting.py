"""A source whose columns change, of each kind, and the bronze table that is captured from it by the real steps."""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pytest

from etl_assets.graph.capture_step import CaptureStep
from etl_assets.graph.delivered_step import DeliveredStep
from etl_assets.graph.outcome import PartitionOutcome
from etl_assets.graph.runtime import Runtime
from etl_assets.project import load_project
from etl_assets.schema_history import schema_history
from etl_assets.verify import verify
from etl_resources.calendar import WHOLE
from etl_resources.engines.embedded import connect
from etl_resources.ledger.ledger import Ledger
from etl_resources.object_store import s3_client
from etl_resources.tables.head import read_head
from etl_resources.tables.input_tables import parquet_scan
from etl_resources.tables.schema import read_schema
from etl_resources.tables.source_schema import RecordedChange
from tests.integration.api_server import Api, page, serving
from tests.lake import Lake, new_lake
from tests.projects import NATIONS

Row = Mapping[str, Any]
HASHED = 'hash_key: {secret: "env:HASH_KEY"}\n'
MONTHS = ("2024-01", "2024-02")
FORMATS = ("csv", "json_lines", "parquet")
KINDS = ("postgres", *FORMATS, "http_api")
BEFORE: Sequence[Row] = (
    {"id": 1, "day": date(2024, 1, 15), "qty": 10, "note": "a"},
    {"id": 2, "day": date(2024, 2, 15), "qty": 20, "note": "b"},
)
POSTGRES_TYPES = {"id": "bigint", "day": "date", "qty": "integer", "note": "text"}
COLUMNS = {"id": "bigint", "day": "date", "qty": "int", "note": "string"}


@dataclass
class Drift:
    """One dataset in a lake that others share."""

    lake: Lake
    api: Api
    engine: "duckdb.DuckDBPyConnection"
    kind: str
    mode: str | None
    name: str = field(default_factory=lambda: f"d_{uuid4().hex[:8]}")
    columns: dict[str, Any] = field(default_factory=lambda: dict(COLUMNS))
    silver: str = ""
    change_column: str | None = None
    """Of a database's table."""
    whole: bool = False
    """Whether a database's table has no partitions, as files have none."""
    size: str | None = None
    """Of its runs; None: the manifest's."""
    _made: tuple[str, Runtime] | None = None

    @property
    def folder(self) -> Path:
        return self.lake.home / self.name

    @property
    def bronze(self) -> str:
        return f"bronze.{self.name}"

    def runtime(self) -> Runtime:
        """Of a project that has this dataset alone, as its manifest is now."""
        text = self.manifest()
        if self._made is None or self._made[0] != text:
            self._made = (text, self._runtime())
        return self._made[1]

    def _runtime(self) -> Runtime:
        place = self.folder / "datasets" / self.name
        place.mkdir(parents=True, exist_ok=True)
        systems = "".join(
            f'  {name}: {{kind: {kind}, connection: {{secret: "env:{secret}"}}}}\n'
            for name, kind, secret in (("crm", "s3_files", "CRM_S3_URL"), ("shop", "http_api", "SHOP_URL"))
        )
        platform = (NATIONS / "platform.yaml").read_text()
        (self.folder / "platform.yaml").write_text(
            platform.replace("\nallowed_targets", f"{systems}{HASHED}\nallowed_targets")
        )
        (place / "manifest.yaml").write_text(self.manifest())
        with self.lake.environment():
            return Runtime(load_project(self.folder), self.lake.settings.model_copy(update={"size": self.size}))

    def manifest(self) -> str:
        columns = "".join(f"    {n}: {json.dumps(c)}\n" for n, c in self.columns.items())
        stamp = f"\n  change_column: {self.change_column}" if self.change_column else ""
        extract = "full" if self.whole else "window"
        sources = {
            "postgres": f"kind: postgres\n  system: erp\n  table: erp.{self.name}\n  extract: {extract}{stamp}",
            "http_api": f'kind: http_api\n  system: shop\n  path: /{self.name}\n  rows: data[]\n  missing: "null"',
        }
        files = f"kind: s3_files\n  system: crm\n  prefix: {self.name}/\n  format: {self.kind}"
        partitions = "partitions: {by: day, every: month}\n" if self.kind == "postgres" and not self.whole else ""
        mode = f"{{schema_evolution: {self.mode}}}" if self.mode else "{}"
        return (
            f"dataset: {self.name}\nowner: team:a\ntenant: acme\ndescription: d\n{partitions}"
            f"source:\n  {sources.get(self.kind, files)}\n  key: [id]\n  columns:\n{columns}"
            f"bronze: {mode}\n{self.silver}"
        )

    def deliver(self, rows: Sequence[Row], name: str = "a", types: Mapping[str, str] = POSTGRES_TYPES) -> None:
        """Let the source be these rows: every row has the columns of the first. types: a database's."""
        if self.kind == "postgres":
            self._table(rows, types)
        elif self.kind == "http_api":
            self.api.answers[f"/{self.name}"] = page({"data": [_plain(r) for r in rows]})
        else:
            self.put(self._file(rows), name)

    def put(self, content: bytes, name: str = "a") -> None:
        """Deliver a file as it is."""
        s3 = s3_client(*_s3(self.lake), region="us-east-1", timeout_s=20)
        s3.put_object(Bucket=_bucket_of(self.lake), Key=f"{self.name}/{name}", Body=content)

    def _table(self, rows: Sequence[Row], types: Mapping[str, str]) -> None:
        columns = ", ".join(f'"{c}" {types[c]}' for c in rows[0])
        self.lake.erp("create schema if not exists erp")
        self.lake.erp(f"drop table if exists erp.{self.name}")
        self.lake.erp(f"create table erp.{self.name} ({columns}, primary key (id))")
        for row in rows:
            self.lake.erp(f"insert into erp.{self.name} values ({', '.join(['%s'] * len(row))})", *row.values())

    def _file(self, rows: Sequence[Row]) -> bytes:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.kind == "csv":
            lines = [",".join(rows[0]), *(",".join("" if v is None else str(v) for v in r.values()) for r in rows)]
            return "\n".join((*lines, "")).encode()
        if self.kind == "json_lines":
            return "".join(f"{json.dumps(_plain(r))}\n" for r in rows).encode()
        big = any(isinstance(r.get("qty"), int) and r["qty"] >= 2**31 for r in rows)
        fields = {"id": pa.int64(), "day": pa.date32(), "qty": pa.int64() if big else pa.int32(), "note": pa.string()}
        kinds = {c: pa.string() if any(isinstance(r[c], str) for r in rows) else fields.get(c) for c in rows[0]}
        out = io.BytesIO()
        pq.write_table(pa.table({c: pa.array([r[c] for r in rows], kinds[c]) for c in rows[0]}), out)
        return out.getvalue()

    def capture(self, *months: str) -> list[PartitionOutcome]:
        """One run. Raises what refuses it."""
        runtime, run_id = self.runtime(), uuid4().hex
        node = runtime.project.tables[self.bronze]
        with self.lake.environment(), Ledger.open(runtime.settings) as ledger:
            if self.kind != "postgres":
                step = DeliveredStep(runtime, node, ledger, run_id)
                outcome = step.run()
                if step.batch is not None:
                    step.batch.publish()
                return [outcome]
            captured = CaptureStep(runtime, "erp", [node], ledger, run_id)
            captured.run(months or ([WHOLE] if self.whole else MONTHS))
            table = captured.tables[self.bronze]
            if table.batch is not None:
                table.batch.publish()
            return table.outcomes

    def statuses(self, *months: str) -> dict[str, str]:
        """Partition → status of a run in which nothing fails."""
        outcomes = self.capture(*months)
        assert not any(o.error for o in outcomes), outcomes
        return {o.partition: o.status for o in outcomes}

    def published(self, columns: str = "id, qty, note") -> list[tuple[Any, ...]]:
        """Rows of bronze."""
        runtime = self.runtime()
        table = runtime.store.catalog.load_table(runtime.addresses[self.bronze].identifier)
        paths = sorted(path for head in read_head(table).values() for path in head.data_paths)
        scan = parquet_scan(paths, read_schema(table.schema()))
        return self.engine.execute(f"select {columns} from {scan} order by id").fetchall()

    def changes(self) -> list[RecordedChange]:
        """What was recorded."""
        return list(schema_history(self.runtime(), self.name).record.changes)

    def rejected(self) -> int:
        """Rows that what is published rejected."""
        total = "select coalesce(sum((counts ->> 'rejected')::int), 0) from etl.current_versions where asset = %s"
        return int(self.lake.platform(total, self.bronze)[0][0])

    def prove_whole(self) -> None:
        """Every store holds what was published."""
        report = verify(self.runtime(), (self.bronze,), (), lambda _: None)
        assert report.equal, "\n".join(report.lines())


def _plain(row: Row) -> dict[str, Any]:
    return {k: v.isoformat() if isinstance(v, date) else v for k, v in row.items()}


def _s3(lake: Lake) -> tuple[str, tuple[str, str]]:
    endpoint, key, secret = lake.settings.require_s3()
    return endpoint, (key, secret)


def _bucket_of(lake: Lake) -> str:
    return lake.env["CRM_S3_URL"].rpartition("/")[2]


Make = Callable[..., Drift]


@pytest.fixture(scope="module")
def make(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Makes datasets of a lake, with a bucket of files and an API beside an empty database."""
    with serving() as api, new_lake(tmp_path_factory.mktemp("lake"), scale=None, project=NATIONS) as lake:
        lake.env |= {"CRM_S3_URL": f"s3://crm-{lake.env['ETL_S3_BUCKET']}", "SHOP_URL": api.url, "HASH_KEY": "k" * 40}
        s3_client(*_s3(lake), region="us-east-1", timeout_s=20).create_bucket(Bucket=_bucket_of(lake))
        with connect(lake.settings) as engine:
            yield lambda kind, mode, **fields: Drift(lake, api, engine, kind, mode, **fields)
