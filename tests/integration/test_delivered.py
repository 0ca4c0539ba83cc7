"""Files of a CRM to Postgres with the real steps: what is published is what lies there, and nothing else happens."""

import gzip
import json
import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from etl_assets.letters.choice import Choice
from etl_assets.letters.listing import list_groups
from tests.crm import BRONZE, MONTH, CrmLake, crm_lake, customer
from tests.crm import customer as c
from tests.mutated import Mutation
from tests.projects import CUSTOMERS

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def crm(stack: object, tmp_path: Path) -> Iterator[CrmLake]:
    with crm_lake(tmp_path) as made:
        yield made


def test_files_become_a_table_and_the_same_files_nothing(crm: CrmLake) -> None:
    """Then one is added, one replaced, one removed: each run publishes exactly what lies there."""
    crm.drop("a.jsonl.gz", [c(1), c(2, 2.5)])
    crm.drop("b.jsonl.gz", [c(3)])
    assert crm.run() == "published"
    crm.prove_right()
    landed = crm.raw()
    assert crm.run() == "pruned"
    assert crm.raw() == landed

    crm.drop("c.jsonl.gz", [c(4)])
    assert crm.run() == "published"
    crm.prove_right()
    assert len(crm.raw()) == len(landed) + 2, "one more file, and the record of the delivery"

    crm.drop("b.jsonl.gz", [c(3, 7)])
    crm.remove("a.jsonl.gz")
    assert crm.run() == "published"
    crm.prove_right()


def test_equal_rows_in_other_files_change_nothing_downstream(crm: CrmLake) -> None:
    """The files differ, the content doesn't: bronze is an alias of what is there, silver is pruned."""
    crm.drop("a.jsonl.gz", [c(1), c(2)])
    crm.run()
    crm.drop("a.jsonl.gz", [c(2)])
    crm.drop("b.jsonl.gz", [c(1)])

    run = crm.lake.materialize(MONTH)

    assert run.success, run.error
    assert run.statuses[BRONZE] == {"all": "unchanged"}
    assert run.statuses["silver/customers"] == {"all": "pruned"}
    crm.prove_right()


@pytest.mark.parametrize(
    ("module", "function", "text", "instead"),
    [
        ("extract.delivered_rows", "write_delivered", "from ({judged}) where len(_reasons) = 0) ",
         "from ({judged}) where len(_reasons) = 0 offset 1) "),
        ("extract.delivered_rows", "judged_delivery", "from {rows} as _raw)", "from (from {rows} offset 1) as _raw)"),
    ],
)  # fmt: skip
def test_a_row_that_is_lost_on_the_way_stops_the_publish(
    crm: CrmLake, module: str, function: str, text: str, instead: str
) -> None:
    """Rows are counted before the engine has them: whatever it loses is missed."""
    crm.drop("a.jsonl.gz", [c(1), c(2), c(3)])
    with Mutation(f"etl_resources.{module}", function, text, instead).made():
        run = crm.lake.materialize(MONTH, selection=[BRONZE])
    assert "rows_accounted: read 3, written 2, rejected 0" in run.error
    assert run.published(BRONZE) == set()


def test_what_doesnt_fit_is_kept_with_its_file_and_reason(crm: CrmLake) -> None:
    """Read = written + rejected; a number keeps its digits, and one that the type can't hold is no other number."""
    exact = '{"customer_id": 5, "name": "Customer 5", "since": "2024-01-31", "balance": 1234567890123456.78}'
    crm.drop("a.jsonl.gz", [c(1), exact, '{"customer_id": 2, "na', c(3, "much")])
    crm.drop("b.jsonl.gz", [{"name": "nobody"}, c(4, 0.125), "[1]"])

    assert crm.run() == "published"

    assert crm.published() == [(1, "Customer 1", "2024-01-31", 1),
                               (5, "Customer 5", "2024-01-31", Decimal("1234567890123456.78"))]  # fmt: skip
    a, b = "customers/a.jsonl.gz", "customers/b.jsonl.gz"
    assert crm.dead_letters() == [
        ("balance is not a decimal(18,2)", a), ("balance is not a decimal(18,2)", b),
        ("customer_id is null", b), ("is not a row that can be read", a), ("is not a row that can be read", b),
    ]  # fmt: skip
    ((text,),) = crm.lake.dead_letters(
        "payload ->> '$._unreadable'", f"source = '{a}' and (payload ->> '$._unreadable') is not null"
    )
    assert text == '{"customer_id": 2, "na'
    places = crm.lake.dead_letters("source, source_row, key")
    assert places[:2] == [(a, 3, '{"customer_id":null}'), (a, 4, '{"customer_id":3}')]

    crm.drop("b.jsonl.gz", [c(4, 0.25)])
    crm.run()
    assert {origin for _, origin in crm.dead_letters()} == {a}, "dead letters go with the delivery that had them"


def test_too_many_rows_that_dont_fit_are_refused_and_told(crm: CrmLake) -> None:
    """A limit of the manifest: what is published stays, and the letters of what was refused can be looked at."""
    project = crm.lake.home / "limited"
    shutil.copytree(CUSTOMERS, project)
    manifest = project / "datasets/customers/manifest.yaml"
    manifest.write_text(manifest.read_text().replace("bronze: {}", 'bronze: {max_rejected_share: "0.25"}'))
    crm.drop("a.jsonl.gz", [c(1), c(2)])
    crm.run()
    before = crm.published()
    crm.drop("a.jsonl.gz", [c(1), c(2), c(3, "much"), "{"])

    run = crm.lake.materialize(MONTH, ETL_PROJECT=str(project))

    assert not run.success
    assert "2 of 4 rows were rejected (0.5000), max_rejected_share is 0.25" in run.error
    assert (crm.published(), crm.dead_letters()) == (before, [])
    refused = list_groups(crm.lake.runtime, Choice(["customers"]), ["refused"], 10)
    assert {(g.rule, g.letters) for g in refused} == {("type", 1), ("readable", 1)}
    crm.drop("a.jsonl.gz", [c(1), c(2), c(3), c(4), "{"])
    assert crm.lake.materialize(MONTH, ETL_PROJECT=str(project)).success
    assert list_groups(crm.lake.runtime, Choice(["customers"]), ["refused"], 10) == []
    assert len(crm.dead_letters()) == 1


def test_a_delivery_without_one_good_row_publishes_nothing(crm: CrmLake) -> None:
    """A JSON array in place of lines, or a page of errors: it would empty the table and everything below."""
    crm.drop("a.jsonl.gz", [c(1)])
    crm.run()
    before = crm.published()
    crm.drop("a.jsonl.gz", [json.dumps([customer(1), customer(2)])])
    run = crm.lake.materialize(MONTH)

    assert not run.success
    assert "none of the 1 rows of this delivery fits the contract" in run.error
    assert crm.published() == crm.served() == before


def test_a_key_twice_or_a_damaged_file_publishes_nothing(crm: CrmLake) -> None:
    """What is published stays, and the error names the file or the key."""
    crm.drop("a.jsonl.gz", [c(1)])
    crm.run()
    before = crm.published()
    crm.drop("b.jsonl.gz", [c(1, 5)])
    twice = crm.lake.materialize(MONTH)
    crm.put("b.jsonl.gz", gzip.compress(json.dumps(customer(2)).encode())[:-9])
    damaged = crm.lake.materialize(MONTH)
    crm.remove("b.jsonl.gz")
    crm.remove("a.jsonl.gz")
    nothing = crm.lake.materialize(MONTH)

    assert not twice.success
    assert "unique_key: rows 2, keys 1" in twice.error
    assert not damaged.success
    assert "customers/b.jsonl.gz can't be read as json_lines" in damaged.error
    assert not nothing.success
    assert "No object of" in nothing.error
    assert crm.published() == crm.served() == before
    assert crm.lake.platform("select attempt from etl.intents where state = 'open'") == []


def test_a_file_without_rows_empties_the_table(crm: CrmLake) -> None:
    """Said on purpose, unlike a listing without files."""
    crm.drop("a.jsonl.gz", [c(1)])
    crm.run()
    crm.drop("a.jsonl.gz", [])

    assert crm.run() == "published"
    assert crm.published() == crm.served() == []
    assert crm.run() == "pruned"


def test_another_contract_reads_the_same_files_again(crm: CrmLake) -> None:
    """The fingerprint is equal, the logic isn't: bronze is made again, from the raw copies that are there."""
    crm.drop("a.jsonl.gz", [{**c(1), "segment": "BUILDING"}])
    crm.run()
    landed = [key for key in crm.raw() if not key.endswith(".json")]
    project = crm.lake.home / "project"
    shutil.copytree(CUSTOMERS, project)
    manifest = project / "datasets/customers/manifest.yaml"
    balance = "    balance: decimal(18,2)\n"
    manifest.write_text(manifest.read_text().replace(balance, f"{balance}    segment: string\n"))

    run = crm.lake.materialize(MONTH, selection=[BRONZE], ETL_PROJECT=str(project))

    assert run.success, run.error
    assert run.statuses[BRONZE] == {"all": "published"}
    assert crm.lake.rows(BRONZE, "customer_id, segment") == [(1, "BUILDING")]
    assert [key for key in crm.raw() if not key.endswith(".json")] == landed
