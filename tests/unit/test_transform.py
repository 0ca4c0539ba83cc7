"""One partition through a SQL transform: every row is written, rejected, deduplicated or filtered (M12, G2)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from etl_resources.contract import Contract, ContractColumn
from etl_resources.engines.transform import JUDGED, Transform, TransformResult, engine_error, run_transform
from etl_resources.errors import PermanentError, TransientError
from etl_resources.manifest_columns import Rule
from etl_resources.manifest_tables import Filter
from etl_resources.quality.audit import account_of, audit_transform, read_back
from etl_resources.quality.content_hash import version_of
from etl_resources.quality.rules import REASON_TEXTS
from etl_resources.quality.second_judge import read_result

CONTRACT = Contract(
    columns=(
        ContractColumn("order_id", "bigint", nullable=False),
        ContractColumn("amount", "decimal(15,2)", nullable=False, rules=(Rule(ge=0),)),
        ContractColumn("changed", "int"),
    ),
    key=("order_id",),
    partition_column="order_id",
)
SQL = "select order_id, amount, changed from bronze.orders"
FIELD_IDS = '{"order_id": 1, "amount": 2, "changed": 3}'


@pytest.fixture(scope="module")
def engine() -> duckdb.DuckDBPyConnection:
    """As the embedded engine is set: insertion order isn't kept."""
    return duckdb.connect(config={"threads": 2, "preserve_insertion_order": False})


def transform(**changes: Any) -> Transform:
    parts: dict[str, Any] = {
        "asset": "silver.orders",
        "sql": SQL,
        "contract": CONTRACT,
        "grain": "bronze.orders",
        "deduplicate_by": "changed",
        "field_ids": FIELD_IDS,
    }
    return Transform(**{**parts, **changes})


def rows(*values: str) -> str:
    """A table expression of (order_id, amount, changed) rows."""
    return f"(values {', '.join(values)}) as v(order_id, amount, changed)"


class Rejected:
    """Stands in for the dead letters: keeps what it was given."""

    def __init__(self) -> None:
        self.letters: list[tuple[Any, ...]] = []

    def __call__(self, engine: duckdb.DuckDBPyConnection) -> Mapping[str, int]:
        letters = (
            f"select array_to_string({REASON_TEXTS}, '; '), _payload::json::varchar from {JUDGED} "
            "where len(_reasons) > 0"
        )
        self.letters = sorted(engine.execute(letters).fetchall())
        return {"some reason": len(self.letters)}


Run = Callable[..., tuple[TransformResult, list[tuple[Any, ...]]]]


@pytest.fixture
def run(engine: duckdb.DuckDBPyConnection, tmp_path: Path) -> Run:
    """Transforms a table expression; its result and the rows in the file."""

    def transform_rows(
        table: str, the_transform: Transform | None = None, keep: Rejected | None = None, name: str = "bronze.orders"
    ) -> tuple[TransformResult, list[tuple[Any, ...]]]:
        path = str(tmp_path / "part-0.parquet")
        result = run_transform(engine, the_transform or transform(), {name: table}, path, keep or Rejected())
        read_result(engine, (the_transform or transform()).contract, f"read_parquet('{path}')", result)
        return result, duckdb.execute(f"select * from '{path}'").fetchall()

    return transform_rows


GOOD = ("(1::bigint, 1.00::decimal(15,2), 1)", "(2, 2.50, 1)")


def test_every_row_is_accounted_for(run: Run, engine: duckdb.DuckDBPyConnection) -> None:
    """6 read: 1 filtered, 2 rejected, 1 deduplicated, 2 written; and the audit agrees with the file."""
    table = rows(*GOOD, "(1, 1.50, 2)", "(3, -1.00, 1)", "(null, 1.00, 1)", "(4, 9.99, 9)")
    stated = Filter(name="of_testers", expression="changed = 9", reason="testers' orders are no revenue")
    filtering = transform(sql=f"{SQL} where changed < 9", filters=(stated,))
    result, written = run(table, filtering)
    account = account_of(result, filtering)
    assert account.counts == {"read": 6, "written": 2, "rejected": 2, "deduplicated": 1, "filtered": 1}
    stored = read_back(engine, CONTRACT, f"read_parquet('{result.paths[0]}')")
    assert all(c.passed for c in audit_transform(result, stored, account, ()))
    unstated = account_of(run(table, transform(sql=filtering.sql))[0], transform())
    assert list(unstated.problems()) == ["1 of 6 rows are lost"]
    assert len(written) == 2


def test_a_file_that_holds_other_values_than_were_judged_fails_the_audit(
    run: Run, engine: duckdb.DuckDBPyConnection
) -> None:
    """Its version is told by what is stored: that this is what was written is proved by the engine's own hash."""
    result, _ = run(rows(*GOOD))
    path = result.paths[0]
    duckdb.execute(
        f"copy (select * replace (amount + 0.01 as amount) from '{path}') to '{path}.other' (format parquet)"
    )
    stored = read_back(engine, CONTRACT, f"read_parquet('{path}.other')")
    unknown = replace(result, version="")
    assert (stored.rows, stored.keys) == (result.written, result.written)
    for judged in (unknown, replace(unknown, version=stored.version)):
        failed = [c for c in audit_transform(judged, stored, account_of(judged, transform()), ()) if not c.passed]
        assert [c.name for c in failed] == ["stored_content"]
        assert result.digest in str(failed[0])


def test_the_newest_row_of_a_key_wins_and_an_unstamped_one_never(run: Run) -> None:
    """A source that delivers a row twice must not give two, nor the older one."""
    written = run(rows("(1::bigint, 1.00::decimal(15,2), 1)", "(1, 3.00, 3)", "(1, 2.00, 2)", "(1, 9.00, null)"))[1]
    assert [(k, str(a)) for k, a, _ in written] == [(1, "3.00")]


def test_which_of_two_equally_new_rows_wins_does_not_depend_on_their_order(run: Run) -> None:
    """Else the same input would give two versions, and every dependant would be recomputed."""
    two = ("(1::bigint, 1.00::decimal(15,2), 1)", "(1::bigint, 2.00::decimal(15,2), 1)")
    assert run(rows(*two))[0].version == run(rows(*reversed(two)))[0].version


def test_a_rejected_row_does_not_supersede_a_good_one(run: Run) -> None:
    """A broken newer delivery is a dead letter; the last good row stays."""
    result, written = run(rows("(1::bigint, 1.00::decimal(15,2), 1)", "(1, -5.00, 2)"))
    assert (result.rejected, result.deduplicated, len(written)) == (1, 0, 1)


def test_without_deduplication_a_repeated_key_is_kept_for_the_audit(
    run: Run, engine: duckdb.DuckDBPyConnection
) -> None:
    """In gdp a duplicate is an error of the SQL: dropping one of two rows would hide it."""
    result, written = run(rows(*GOOD, "(1, 7.00, 1)"), transform(deduplicate_by=None))
    assert len(written) == 3
    assert read_back(engine, CONTRACT, f"read_parquet('{result.paths[0]}')").keys == 2


def test_a_dead_letter_has_the_row_as_it_came(run: Run) -> None:
    """Before any cast: who corrects it must see what was delivered."""
    keep = Rejected()
    table = "(values (1::bigint, '12,50', 1), (2, '1.00', 1)) as v(order_id, amount, changed)"
    result, written = run(table, keep=keep)
    assert keep.letters == [("amount is not a decimal(15,2)", '{"order_id":1,"amount":"12,50","changed":1}')]
    assert result.reasons == {"some reason": 1}
    assert [r[0] for r in written] == [2]


def test_nothing_is_kept_when_nothing_is_rejected(run: Run) -> None:
    """No round trip to the ledger for a clean partition."""

    class Refuses(Rejected):
        def __call__(self, engine: duckdb.DuckDBPyConnection) -> Mapping[str, int]:
            raise AssertionError("called without a rejected row")

    assert run(rows(*GOOD), keep=Refuses())[0].rejected == 0


@pytest.mark.parametrize("table", [rows("(null::bigint, null::decimal(15,2), 1)"), f"{rows(*GOOD)} where false"])
def test_a_partition_without_good_rows_still_has_its_file(run: Run, table: str) -> None:
    """The file keeps the epoch: without it a writer that slept could put old rows back."""
    result, written = run(table)
    assert (result.written, result.version, written) == (0, version_of(0, "0" * 16), [])
    assert Path(result.paths[0]).exists()


def test_the_version_depends_on_the_content_alone(run: Run) -> None:
    """Not on the order of rows, nor on columns that the contract doesn't have."""
    one = run(rows(*GOOD))[0].version
    other_sql = "select 'x' as extra, changed, amount, order_id from bronze.orders"
    assert run(rows(*reversed(GOOD)), transform(sql=other_sql))[0].version == one


def test_the_file_is_sorted_by_key_and_carries_field_ids(run: Run) -> None:
    """Readers find columns by id after a schema change, and prune by key."""
    result, written = run(rows(*reversed(GOOD), "(0, 1.00, 1)"))
    assert [r[0] for r in written] == [0, 1, 2]
    fields = pq.read_schema(result.paths[0])
    assert [fields.field(i).metadata[b"PARQUET:field_id"] for i in range(3)] == [b"1", b"2", b"3"]
    assert str(fields.field("amount").type) == "decimal128(15, 2)"


def test_a_reserved_word_may_name_a_dataset(run: Run) -> None:
    """Identifiers of the manifest are any lower case word."""
    named = transform(sql='select order_id, amount, changed from bronze."order"', grain="bronze.order")
    assert run(rows(*GOOD), named, name="bronze.order")[0].written == 2


@pytest.mark.parametrize("name", ["payload", "reasons", "raw", "key_rank", "typed", "produced", "partition"])
def test_a_contract_may_use_the_words_that_the_engine_uses_inside(run: Run, name: str) -> None:
    """A column called `payload` is ordinary business data (events, messages)."""
    contract = Contract(
        (*CONTRACT.columns[:2], ContractColumn(name, "string", nullable=False, rules=(Rule(matches="[a-z]+"),))),
        ("order_id",), "order_id",
    )  # fmt: skip
    the_transform = transform(
        contract=contract,
        sql=f"select order_id, amount, 'abc' as \"{name}\" from bronze.orders "
        f"union all select 3, amount, 'ABC' from bronze.orders",
        grain=None,
        deduplicate_by="order_id",
        field_ids=f'{{"order_id": 1, "amount": 2, "{name}": 3}}',
    )
    result, written = run(rows(*GOOD), the_transform)
    assert (result.rejected, result.written, written[0][2]) == (2, 2, "abc")


def test_one_engine_serves_many_partitions(run: Run) -> None:
    """Nothing of one partition is left for the next, also when the first one failed."""
    with pytest.raises(duckdb.Error):
        run(rows(*GOOD), transform(sql="select 1/0 as order_id, nonsense"))
    assert run(rows(*GOOD))[0].written == 2
    assert run(rows("(7::bigint, 1.00::decimal(15,2), 1)"))[0].written == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (duckdb.HTTPException("503 Slow Down"), TransientError),
        (duckdb.IOException("Could not establish connection"), TransientError),
        (duckdb.OutOfMemoryException("could not allocate"), PermanentError),
        (duckdb.BinderException("no column x\nLINE 1: …"), PermanentError),
        (duckdb.Error(""), PermanentError),
    ],
)
def test_an_engine_error_is_one_of_ours_and_says_where(error: Exception, kind: type[Exception]) -> None:
    """Storage may recover, a wrong query doesn't; the kind decides about the retry (A4)."""
    ours = engine_error("silver.orders, partition 2024-03", error)
    assert type(ours) is kind
    assert str(ours).startswith("silver.orders, partition 2024-03: ")
    assert "\n" not in str(ours)
