"""Letters of a source of files: what people set aside stays so, what they fix comes back from the raw copies, and what
nobody needs goes."""

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from etl_assets.cli.main import app
from etl_assets.graph.runtime import Runtime
from etl_assets.maintain import maintain
from etl_assets.project import load_project
from etl_assets.recover import recover
from etl_resources.object_store import ObjectStore
from etl_resources.tables.head import read_head
from tests.crm import MONTH, CrmLake, crm_lake
from tests.crm import customer as c
from tests.invariants import await_sessions_gone, prove_letters
from tests.projects import CUSTOMERS

pytestmark = pytest.mark.timeout(300)
BRONZE = "bronze.customers"


@pytest.fixture
def crm(stack: object, tmp_path: Path) -> Iterator[CrmLake]:
    """With a copy of the project that can be edited."""
    with crm_lake(tmp_path) as made:
        shutil.copytree(CUSTOMERS, tmp_path / "project")
        made.lake.env["ETL_PROJECT"] = str(tmp_path / "project")
        yield made


def call(crm: CrmLake, command: str) -> Any:
    with crm.lake.environment():
        done = CliRunner().invoke(app, ["dead-letters", *shlex.split(command), "--json"])
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    return json.loads(done.stdout)


def statuses(crm: CrmLake) -> dict[str, int]:
    return {g["status"]: g["letters"] for g in call(crm, "list --status all")}


def test_a_discarded_letter_stays_so_until_it_changes(crm: CrmLake) -> None:
    """Somebody answered for it once; the same row of a later delivery isn't asked about again, another value is."""
    crm.drop("a.jsonl.gz", [c(1), c(2, "much"), c(3, "more")])
    crm.run()
    assert statuses(crm) == {"open": 2}
    one = '--by ana --reason "test customer" --text decimal'
    letter = next(x["sample"]["letter"] for x in call(crm, "list") if x["letters"] == 2)
    assert call(crm, f"discard customers {one} --letter {letter} --dry-run")["discarded"] == {BRONZE: 1}
    assert statuses(crm) == {"open": 2}
    assert call(crm, f"discard customers {one} --letter {letter}")["discarded"] == {BRONZE: 1}
    assert call(crm, f"discard customers {one} --letter {letter}")["discarded"] == {}
    assert statuses(crm) == {"open": 1, "discarded": 1}

    crm.drop("a.jsonl.gz", [c(0), c(1), c(2, "much"), c(3, "more")])
    crm.run()
    assert statuses(crm) == {"open": 1, "discarded": 1}
    assert crm.lake.dead_letters("distinct seen") == [(2,)], "the second publish that rejects them"

    crm.lake.platform("drop schema etl cascade")
    assert recover(crm.lake.runtime).unsettled == []
    assert statuses(crm) == {"open": 1, "discarded": 1}, "a lost ledger is rebuilt with who set aside what"

    crm.drop("a.jsonl.gz", [c(1), c(2, "very much"), c(3, "most")])
    crm.run()
    assert statuses(crm)["open"] == 2
    prove_letters(crm.lake)


def test_rows_of_files_come_back_from_the_raw_copies(crm: CrmLake) -> None:
    """A column was too narrow: widened, its rows are typed again, in every table and target; what is no row stays."""
    crm.drop("a.jsonl.gz", [c(1), c(2, "12345678901234567.89"), c(3, "2.5"), "{"])
    crm.run()
    assert [row[0] for row in crm.served()] == [1, 3]
    manifest = Path(crm.lake.env["ETL_PROJECT"], "datasets/customers/manifest.yaml")
    manifest.write_text(manifest.read_text().replace("decimal(18,2)", "decimal(20,2)"))
    crm.lake.__dict__.pop("runtime", None)
    crm.lake.platform("drop table analytics.customers")

    dry = call(crm, "replay customers --dry-run")
    (verdict,) = dry["partitions"]
    assert (verdict["back"], verdict["still"], verdict["stays"]) == (1, 1, {"is not a row that can be read": 1})
    assert [row[0] for row in crm.published()] == [1, 3]
    done = call(crm, "replay customers")

    assert (done["restored"], done["errors"]) == (1, [])
    assert [row[0] for row in crm.served()] == [1, 2, 3]
    assert statuses(crm) == {"open": 1, "replayed": 1}
    prove_letters(crm.lake)


@pytest.mark.parametrize("point", ["stage.rejected_kept", "letters.committed", "letters.indexed"])
def test_letters_of_a_killed_run_are_never_seen_and_go(crm: CrmLake, point: str) -> None:
    """Whether only their file, their table or also the index knows them."""
    crm.drop("a.jsonl.gz", [c(1), c(2, "much")])
    child = crm.lake.spawn(MONTH, points=[{"point": point, "action": "kill"}])
    assert child.wait() is None, child.log
    await_sessions_gone(crm.lake)

    assert statuses(crm) == {}
    with crm.lake.environment(ETL_MAINTAIN_GUARD_S="0"):
        found = recover(Runtime(load_project()))
    assert found.unsettled == []
    assert crm.lake.platform("select path from etl.dead_letter_files") == []
    address = crm.lake.runtime.letters_addresses[BRONZE]
    store = ObjectStore.of(crm.lake.runtime.store.catalog, address.location)
    with crm.lake.environment(ETL_MAINTAIN_GUARD_S="0"):
        recover(Runtime(load_project()))
    assert [o.path for o in store.list("data")] == []
    crm.run()
    assert statuses(crm) == {"open": 1}
    prove_letters(crm.lake)


def test_letters_that_nobody_needs_go(crm: CrmLake) -> None:
    """Of superseded versions and refused attempts, once they can't be rolled back to; current ones never."""
    for number in range(3):
        crm.drop("a.jsonl.gz", [c(1, number), c(2, "much"), c(3, f"more {number}")])
        crm.run()
    crm.drop("a.jsonl.gz", [c(1, "none fits")])
    assert not crm.lake.materialize("2024-01").success
    assert statuses(crm)["refused"] == 1
    address = crm.lake.runtime.letters_addresses[BRONZE]

    def stored() -> set[tuple[str, int]]:
        table = crm.lake.runtime.store.catalog.load_table(address.identifier)
        return {(p, len(h.files)) for p, h in read_head(table).items()}

    assert stored() == {("all", 4)}
    before = crm.lake.dead_letters("letter, epoch")
    with crm.lake.environment(ETL_MAINTAIN_KEEP_VERSIONS="1", ETL_MAINTAIN_MAX_VERSIONS="1", ETL_MAINTAIN_GUARD_S="0"):
        done = maintain(Runtime(load_project()), [], lambda _: None)
    assert done.failed == {}
    assert sum(t.letters_removed for t in done.tables) == 2
    assert stored() == {("all", 2)}, "what is published, and what was refused since"
    assert crm.lake.dead_letters("letter, epoch") == before
    prove_letters(crm.lake)
    crm.drop("a.jsonl.gz", [c(1), c(2)])
    crm.run()
    assert crm.dead_letters() == []
