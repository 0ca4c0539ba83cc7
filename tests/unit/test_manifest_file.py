"""Reading a manifest: strict YAML, positions, and errors that say what to write instead."""

from pathlib import Path

import pytest

from etl_resources.errors import ManifestErrors
from etl_resources.manifest import Dataset, Platform
from etl_resources.manifest_file import load_platform, parse_manifest, read_manifest
from etl_resources.manifest_targets import ElasticsearchTarget, PostgresTarget

PATH = Path("orders/manifest.yaml")
HEAD = """\
dataset: orders
owner: team:a
tenant: acme
description: Orders.
partitions: {by: day, every: month}
"""
SOURCE = """\
source:
  kind: postgres
  system: erp
  table: erp.orders
  key: [id]
  columns:
    id: bigint
    day: date
bronze: {}
"""
FILES = """\
source:
  kind: s3_files
  system: crm
  prefix: orders/
  format: json_lines
  key: [id]
  columns: {id: bigint, day: date}
"""
GDP = """\
gdp:
  key: [id]
  sql: orders.sql
  columns:
    id: {type: bigint, check: {ge: 1}}
"""


def errors_in(text: str) -> list[str]:
    with pytest.raises(ManifestErrors) as raised:
        parse_manifest(text, PATH, Dataset)
    return str(raised.value).replace(f"{PATH}:", "").splitlines()


def parse(text: str) -> Dataset:
    return parse_manifest(text, PATH, Dataset).model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEAD + "ownr: x\n" + SOURCE,
            "6: unknown key 'ownr'; did you mean 'owner'? Valid: dataset, owner, tenant",
        ),
        (
            HEAD + SOURCE.replace("key:", "kee:"),
            "6: key is missing in source: give a list of at least 1, each a name",
        ),
        (
            HEAD + SOURCE.replace("key:", "kee:"),
            "10: unknown key 'kee' in source; did you mean 'key'? Valid: kind,",
        ),
        (
            HEAD.replace("acme", "5"),
            "3: tenant: 5 is not valid; expected a name: lower case letters, digits and _",
        ),
        (
            HEAD.replace("team:a", "anna"),
            "2: owner: 'anna' is not valid; expected team:<name> or a mail address",
        ),
        (
            HEAD.replace("month", "mont"),
            "5: partitions.every: 'mont' is not valid; did you mean 'month'? Valid: day, week, month,",
        ),
        (
            HEAD.replace("month", "month, start: 2024-13"),
            "5: partitions.start: '2024-13' is not valid; expected a partition's key",
        ),
        (
            HEAD.replace("month", "day, start: 2024-02-30"),
            "5: partitions.start: '2024-02-30' is no key of a period",
        ),
        (
            HEAD + SOURCE.replace("[id]", "id"),
            "10: source.key: 'id' is not valid; expected a list of at least 1, each",
        ),
        (
            HEAD + SOURCE.replace("bigint", "integer"),
            "12: source.columns.id.type: 'integer' is not valid; expected bigint,",
        ),
        (HEAD + SOURCE.replace("bigint", "numeric"), "precision 1 to 38"),
        (
            HEAD + SOURCE.replace("id: b", "Id: b"),
            "12: source.columns.Id: 'Id' is not a valid name; valid: lower case",
        ),
        (
            HEAD + SOURCE.replace("id: bigint", "id: {tipe: bigint}"),
            "12: unknown key 'tipe' in source.columns.id; did you",
        ),
        (
            HEAD + SOURCE.replace("id: bigint", "id: [bigint]"),
            "12: source.columns.id: a list is not valid; expected a map",
        ),
        (
            HEAD + SOURCE.replace("bronze: {}", "bronze:"),
            "1: source and bronze belong together (`bronze: {}` is enough)",
        ),
        (
            HEAD + SOURCE.replace("postgres", "oracle"),
            "7: source.kind: 'oracle' is not valid; valid: postgres, s3_files",
        ),
        (
            HEAD + SOURCE.replace("  kind: postgres\n", ""),
            "6: kind is missing in source: give one of postgres, s3_files",
        ),
        (
            HEAD + FILES.replace("prefix", "prefiks"),
            "9: unknown key 'prefiks' in source; did you mean 'prefix'? Valid:",
        ),
        (
            HEAD + FILES.replace("json_lines", "jsonl"),
            "10: source.format: 'jsonl' is not valid; did you mean 'json_lines'? Valid: csv,",
        ),
        (
            HEAD + FILES + "  csv: {delimiter: ;}\n",
            "6: source: csv describes CSV text, the format is json_lines: remove it",
        ),
        (
            HEAD + GDP.replace("ge: 1", "ge: 0.5"),
            "10: gdp.columns.id.check.ge: 0.5 (a float; write decimals in quotes)",
        ),
        (
            HEAD + GDP.replace("{ge: 1}", "{}"),
            "10: gdp.columns.id.check: a check needs at least one of ge, gt, le, lt,",
        ),
        (
            HEAD + GDP.replace("{ge: 1}", "{ge: true}"),
            "10: gdp.columns.id.check.ge: true is not valid; expected a whole",
        ),
        (
            HEAD + GDP.replace("  sql", "  version: '2'\n  sql"),
            "8: gdp.version: '2' is not valid; expected a whole number",
        ),
        (HEAD + GDP + SOURCE, "1: a dataset has exactly one of source, gdp, kpi; given: source, gdp"),
        (HEAD, "1: a dataset has exactly one of source, gdp, kpi; given: none"),
        (
            HEAD + GDP.replace("  sql", "  sql: a.sql\n  sql"),
            "9: duplicate key 'sql', first given on line 8: remove one",
        ),
        (HEAD + "x: &a 1\ny: *a\n", "7: alias of line 6: aliases are not allowed, write it out"),
        (HEAD + "x: &a {y: *a}\n", "6: alias of line 6: aliases are not allowed, write it out"),
        (
            HEAD + "x: !!python/object:os.system 1\n",
            "6: tag tag:yaml.org,2002:python/object:os.system is not allowed",
        ),
        (HEAD + "x: !!int abc\n", "6: 'abc' is not a value of tag tag:yaml.org,2002:int"),
        (HEAD + "? [a]\n: 1\n", "6: a key must be a plain name"),
        (HEAD + "x: [1\n", "not valid YAML: "),
        ("- a\n", "1: must be a mapping with dataset, owner, tenant,"),
        ("", "1: must be a mapping with dataset,"),
    ],
)
def test_error_has_line_and_valid_values(text: str, message: str) -> None:
    """What is wrong, where, and what to write."""
    found = errors_in(text)
    assert any(message in e if not message[0].isdigit() else e.startswith(message) for e in found), found


def test_all_errors_of_a_file_come_in_the_order_of_its_lines() -> None:
    """A reader goes through the file once."""
    text = (
        HEAD.replace("acme", "5").replace("every: month", "every: weeks") + "extra: 1\n" + SOURCE.replace("[id]", "[]")
    )
    assert [e.split(":")[0] for e in errors_in(text)] == ["3", "5", "6", "11"]


def test_yaml_1_1_surprises_are_text() -> None:
    """`on`, `no` and dates are what they look like."""
    columns = "{order_id: day}"
    text = HEAD + SOURCE.replace(
        "  columns", f"  joins:\n    - {{table: erp.days, on: {columns}, columns: {columns}}}\n  columns"
    )
    assert parse(text).source.joins[0].on == {"order_id": "day"}  # type: ignore[union-attr]
    rules = GDP.replace("bigint, check: {ge: 1}", "string, check: {isin: [on, no, Y, 012, 1:30], ge: 2024-01-01}")
    (check,) = parse(HEAD + rules).gdp.columns["id"].check  # type: ignore[union-attr]
    assert check.isin == ("on", "no", "Y", "012", "1:30")
    assert check.ge == "2024-01-01"


def test_short_and_long_columns_are_the_same() -> None:
    """`id: bigint` is `id: {type: bigint}`."""
    assert parse(HEAD + SOURCE) == parse(HEAD + SOURCE.replace("id: bigint", "id: {type: bigint}"))


def test_files_are_read(tmp_path: Path) -> None:
    """The two public functions take paths."""
    (tmp_path / "manifest.yaml").write_text(HEAD + SOURCE)
    assert read_manifest(tmp_path / "manifest.yaml", Dataset).model.layers == ("bronze",)
    with pytest.raises(ManifestErrors, match=r"platform\.yaml: can't be read: No such file"):
        load_platform(tmp_path / "platform.yaml")
    (tmp_path / "manifest.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ManifestErrors, match="not UTF-8 text"):
        read_manifest(tmp_path / "manifest.yaml", Dataset)


def test_platform_whitelists_targets() -> None:
    """C8: only named tables, or tables of named schemas."""
    text = """
etl_resource_prefix: pp-dw
database_prefix: pp_dw
calendar: {start: 2024-01, end: 2024-12}
sizes: {medium: {duckdb: {threads: 2, memory_mb: 600}}}
tenants: [acme]
network_profiles: [private_vpc]
systems: {}
allowed_targets: {postgres: ["analytics.*", public.one]}
"""
    targets = parse_manifest(text, PATH, Platform).model.allowed_targets
    named = ("analytics.a", "public.one", "public.two")
    assert [t for t in named if targets.allow(PostgresTarget(postgres=t))] == ["analytics.a", "public.one"]
    assert not targets.allow(ElasticsearchTarget(elasticsearch="orders"))
