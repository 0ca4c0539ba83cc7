"""No sensitive value is anywhere but in the raw zone: everything that the system wrote is searched."""

import hashlib
import hmac
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from typer.testing import CliRunner

from etl_assets.cli.main import app
from etl_assets.definitions import build_definitions
from tests.integration.api_server import Answer
from tests.people import CANARIES, KEY, MONTH, PLAIN, People, people_lake, person
from tests.projects import PEOPLE
from tests.traces import Trace, places, traces

if TYPE_CHECKING:
    from etl_resources.stack import StackStatus

pytestmark = pytest.mark.timeout(600)
STORES = {"objects", "tables", "indexes", "files"}


@pytest.fixture(scope="module")
def people(search: "StackStatus", tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """Sources with good rows and bad ones, captured once."""
    from etl_resources.sinks.elasticsearch_client import connect

    with people_lake(tmp_path_factory.mktemp("people")) as made:
        deliver(made)
        run = made.lake.materialize(MONTH)
        assert run.success, run.error
        for dataset in ("visitors", "plain"):
            command(made, "sql", f"from silver.{dataset}")
        yield made
        with connect(made.lake.settings) as client:
            names = [*client.indices.get(index="people-*,visitors-*,plain-*", expand_wildcards="all").body]
            client.indices.delete(index=names or "none-*")


def deliver(people: People) -> None:
    """Good rows; rows whose values don't fit; lines that are no rows; keys that nobody declared."""
    unfit = person(3, ssn="canary-ssn", born="canary-born")
    people.accounts([person(1), person(2, phone=None), person(3, ssn="canary-ssn"), person(4, email=None)])
    people.csv(person(1), person(2), unfit, "4,canary,canary", person(5, email=""), person(6, ssn=""))
    people.json_lines("customers", person(1), unfit, '{"id": 4, "email": "canary', person(5, mobile="canary"), "canary")
    people.parquet([person(1), person(2, phone=None)])
    missing = {k: v for k, v in person(4).items() if k != "ssn"}
    people.leads(person(1), unfit, missing, "canary")
    people.json_lines("plain", person(1, PLAIN), person(3, PLAIN, ssn="plainbird"), '{"id": plainbird', "plainbird!")


def searched(people: People, *folders: Path) -> list[Trace]:
    return list(traces(people.lake, *folders))


def prove_unseen(found: list[Trace]) -> None:
    """No canary in any store. The same marks of people who aren't sensitive are in each: the search isn't blind."""
    seen = {canary: at for canary in CANARIES if (at := places(found, canary))}
    assert not seen, seen
    assert {mark: set(places(found, mark)) for mark in PLAIN} == dict.fromkeys(PLAIN, STORES)


def hashed(value: object) -> str:
    return hmac.new(KEY.encode(), str(value).encode(), hashlib.sha256).hexdigest()


def command(people: People, *arguments: str) -> None:
    """A command whose output is among the files that are searched."""
    with people.lake.environment():
        result = CliRunner().invoke(app, arguments)
    (people.lake.home / f"output-{'-'.join(arguments)[:40].replace('/', '_')}.txt").write_text(result.output)


def test_what_is_written_of_people_is_covered(people: People, search: "StackStatus") -> None:
    """Each kind of source, good rows and rejected ones, through all layers to both serving stores."""
    mail, ssn = hashed("Mail-1@canary.test"), hashed(818200777001)
    for dataset in ("accounts", "visitors", "customers", "devices", "leads"):
        first = people.bronze(dataset)[0]
        assert first == (1, mail, ssn, "***", "1957-01-01", "plainbird 1"), dataset
    with people.lake.environment():
        asset = build_definitions().get_assets_def(dg.AssetKey(["gdp", "gdp_people"]))
    (schema,) = (m["dagster/column_schema"] for m in asset.metadata_by_key.values())
    assert [c.tags for c in schema.columns] == [{}, {"sensitive": "hash"}, {}, {"sensitive": "made_of_hash"}]
    prove_unseen(searched(people, search.home / "logs"))


def test_a_source_that_breaks_tells_no_value(people: People) -> None:
    """Casts in the server and in the engine, an open quote, a key twice, other types, an answer that is no JSON."""
    of_the_engine = "current_query() ilike 'copy%'"
    people.accounts([person(11)], phone=f"case when {of_the_engine} then email::bigint::text else phone end")
    people.csv(person(11), f'12,"{CANARIES[0]}')
    people.json_lines("customers", person(11), person(11))
    people.parquet([person(11, ssn="canary")], ssn="string")
    people.api.answers["/leads"] = Answer(b"<html>canary</html>", headers={"Content-Type": "text/html"})
    run = people.lake.materialize(MONTH)
    refusals = ("Capturing erp.accounts", "visitors/a.csv can't be read as csv", "unique_key: rows 2, keys 1",
                "ssn is string", "instead of JSON: 19 bytes (not shown")  # fmt: skip
    for told in refusals:
        assert told in run.error, run.errors
    people.accounts([person(12)], phone="email::bigint")
    people.csv(person(12), person(13), header=False)
    people.api.answers["/leads"] = Answer(b'{"error": "canary"}', 400)
    run = people.lake.materialize(MONTH, selection=["bronze/accounts", "bronze/visitors", "bronze/leads"])
    for told in (
        "Observing erp.accounts: InvalidTextRepresentation [22P02]",
        "email (string) is missing",
        "answered 19 bytes",
    ):
        assert told in run.error
    command(people, "schema-changes", "visitors")
    command(people, "account", "visitors")
    prove_unseen(searched(people))


def test_a_run_that_is_killed_leaves_no_value(people: People) -> None:
    """Half written files, kept rejections, spilled rows: before recovery and after it."""
    people.accounts([person(21), person(22, ssn="canary")])
    people.csv(person(21), person(22, ssn="canary"))
    for asset, point in (("bronze/visitors", "stage.rejected_kept"), ("bronze/accounts", "capture.files_written")):
        points = [{"point": point, "action": "kill", "match": asset.replace("/", ".")}]
        assert people.lake.spawn(MONTH, selection=[asset], points=points).wait() is None
    prove_unseen(searched(people))
    deliver(people)
    people.json_lines("customers", person(1), person(2, cell="canary"))
    command(people, "recover")
    run = people.lake.materialize(MONTH)
    assert run.success, run.error
    command(people, "verify")
    prove_unseen(searched(people))


def test_what_becomes_sensitive_is_gone_when_older_versions_are(people: People, tmp_path: Path) -> None:
    """The column is another one at once; maintenance deletes the files that held the old one, after one more commit the
    manifests that named their bounds."""
    deliver(people)
    project = Path(shutil.copytree(PEOPLE, tmp_path / "people"))
    manifest = project / "datasets/plain/manifest.yaml"
    text = manifest.read_text().replace("    phone: string", "    phone: {type: string, sensitive: mask}")
    text = text.replace("    email: string", "    email: {type: string, sensitive: hash}")
    manifest.write_text(text.replace("    born: date", "    born: {type: date, sensitive: mask}"))
    people.lake.env["ETL_PROJECT"] = str(project)
    for name in ("settings", "runtime"):
        people.lake.__dict__.pop(name, None)

    refused = people.lake.materialize(MONTH, selection=["silver/plain"])
    assert "bronze.plain has no published partition all. Materialize it first." in refused.error
    run = people.lake.materialize(MONTH)
    assert run.success, run.error
    mail = hashed("Mail-1@plainbird.test")
    assert people.bronze("plain")[0][:5] == (1, mail, 929300888001, "***", "1968-01-01")
    people.json_lines("plain", person(1, PLAIN), person(4, PLAIN))
    run = people.lake.materialize(MONTH)
    assert run.success, run.error
    with people.lake.environment(ETL_MAINTAIN_KEEP_VERSIONS="1", ETL_MAINTAIN_KEEP_DAYS="0", ETL_MAINTAIN_GUARD_S="0"):
        result = CliRunner().invoke(app, ["maintain"])
    assert result.exit_code == 0, result.output

    with people.lake.environment():
        result = CliRunner().invoke(app, ["verify"])
    assert result.exit_code == 0, result.output
    found = [
        t for t in searched(people) if t.store == "objects" and "plain/" in t.place and "/evidence/" not in t.place
    ]
    assert found
    assert places(found, "@plainbird") == places(found, PLAIN[3]) == {}


def test_without_its_key_a_run_says_so_and_publishes_nothing(people: People) -> None:
    """Neither a run without the key, nor one whose key isn't that of the definitions."""
    people.csv(person(31))
    run = people.lake.materialize(MONTH, selection=["bronze/visitors"], HASH_KEY="")
    assert "HASH_KEY is not set" in run.error
    run = people.lake.materialize(MONTH, selection=["bronze/visitors"], HASH_KEY="short")
    assert "HASH_KEY, the key of hashed columns, has fewer than 32 characters" in run.error
    run = people.lake.materialize(MONTH, selection=["bronze/visitors"], HASH_KEY="other " * 8)
    assert run.success, run.error
    assert people.bronze("visitors")[0][1] != hashed("Mail-31@canary.test")
