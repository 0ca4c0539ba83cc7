"""A serving table in Postgres follows its partitions and its contract: nothing stays that is gone, nothing is stuck."""

import secrets
from collections.abc import Mapping
from dataclasses import replace

import pytest

from etl_resources.contract import Contract
from etl_resources.errors import PermanentError
from etl_resources.settings import Settings, load_settings
from etl_resources.sinks.postgres_sink import PostgresSink
from tests.databases import query
from tests.search_target import CONTRACT, Rows, serve_through

pytest_plugins = ["tests.search_target"]

LOADS = ("replace", "upsert")


@pytest.fixture
def platform(search_ledger: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a ledger and a serving database of this module's own."""
    monkeypatch.setenv("ETL_POSTGRES_DSN", search_ledger)
    return load_settings()


def new_sink(settings: Settings, load: str) -> PostgresSink:
    name = f"analytics.t_{secrets.token_hex(4)}"
    return PostgresSink(settings, name, load, CONTRACT.key, CONTRACT, f"postgres.{name}")  # type: ignore[arg-type]


def served(sink: PostgresSink) -> dict[str, str]:
    """Partition → version of the rows that are there."""
    return {p: version for p, (_, version) in sink.counts().items()}


def versions(rows: Mapping[str, Rows]) -> dict[str, str]:
    return {p: r.version(p) for p, r in rows.items()}


@pytest.mark.parametrize("load", LOADS)
def test_rows_that_vanished_vanish_from_the_table(platform: Settings, load: str) -> None:
    """A deleted customer would be served for ever, and verify would differ for ever."""
    sink = new_sink(platform, load)
    serve_through(sink, platform, {"2024-01": Rows(50, 3), "2024-02": Rows(30, 5)})
    changed = {"2024-01": Rows(20, 7), "2024-02": Rows(30, 5)}

    done = serve_through(sink, platform, changed)

    assert (done.published, done.pruned, done.errors) == (["2024-01"], ["2024-02"], [])
    assert served(sink) == versions(changed)


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize(("old", "new"), [("2024-01", "2024-02"), ("2024-02", "2024-01")])
def test_a_row_that_moved_is_not_cleaned_up_with_its_old_partition(
    platform: Settings, load: str, old: str, new: str
) -> None:
    """Its key is gone from the old partition and is in the new one: clean-up comes after all partitions are filled."""
    sink = new_sink(platform, load)
    serve_through(sink, platform, {"2024-01": Rows(12, 3), "2024-02": Rows(8, 3)})
    counts = {"2024-01": 12, "2024-02": 8}
    moved = {
        old: Rows(counts[old], 3, moved_out=2),
        new: Rows(counts[new], 3, moved_in=2, moved_from=old),
    }

    done = serve_through(sink, platform, moved)

    assert (done.published, done.errors) == (["2024-01", "2024-02"], [])
    assert served(sink) == versions(moved)


def test_an_upserted_whole_table_loses_the_rows_that_vanished(platform: Settings) -> None:
    """Without partitions each row belongs to the one that there is."""
    contract = replace(CONTRACT, partition_column=None)
    sink = replace(new_sink(platform, "upsert"), contract=contract)
    serve_through(sink, platform, {"all": Rows(9, 3)})
    rows = {"all": Rows(9, 3, moved_out=4)}

    done = serve_through(sink, platform, rows)

    assert (done.published, done.errors) == (["all"], [])
    assert served(sink) == versions(rows)
    assert query(platform.require_postgres(), f"select count(*) from {sink.target}") == [(5,)]


@pytest.mark.parametrize("load", LOADS)
def test_rows_that_the_server_forgot_before_they_were_published_are_not_taken_for_none(
    platform: Settings, load: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staging tables are unlogged: a server that crashed comes back with empty ones. Nothing would be upserted, the old
    rows would be as many as the new ones, and would be recorded as them.
    """
    sink = new_sink(platform, load)
    serve_through(sink, platform, {"2024-01": Rows(50, 3)})

    def forget(point: str, _: str) -> None:
        if point == "postgres.before_transaction":
            for (part,) in query(
                platform.require_postgres(),
                "select oid::regclass::text from pg_class where relispartition and relpersistence = 'u' "
                "and relnamespace = 'etl_staging'::regnamespace",
            ):
                query(platform.require_postgres(), f"truncate {part}")

    with monkeypatch.context() as m:
        m.setattr("etl_resources.sinks.postgres_sink.failpoint", forget)
        done = serve_through(sink, platform, {"2024-01": Rows(50, 7)})

    assert done.published == []
    (error,) = done.errors
    assert error.startswith("RestartError: ")
    assert "none of the rows that were written are left" in error
    assert served(sink) == versions({"2024-01": Rows(50, 3)})
    assert serve_through(sink, platform, {"2024-01": Rows(50, 7)}).published == ["2024-01"]
    assert served(sink) == versions({"2024-01": Rows(50, 7)})


def without(column: str) -> Contract:
    return replace(CONTRACT, columns=tuple(c for c in CONTRACT.columns if c.name != column))


def with_nullable(column: str, *, nullable: bool) -> Contract:
    columns = tuple(replace(c, nullable=nullable) if c.name == column else c for c in CONTRACT.columns)
    return replace(CONTRACT, columns=columns)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(without("amount"), id="a column that is gone"),
        pytest.param(with_nullable("amount", nullable=True), id="one that may be empty now"),
    ],
)
def test_a_column_that_is_no_longer_required_lets_rows_in(platform: Settings, changed: Contract) -> None:
    """The table would refuse each row until somebody alters it by hand."""
    strict = with_nullable("amount", nullable=False)
    sink = replace(new_sink(platform, "replace"), contract=strict)
    sink.ensure()

    replace(sink, contract=changed).ensure()

    insert = f"insert into {sink.target} (order_id, line, amount) values (1, 'x', null)"
    query(platform.require_postgres(), insert)


def test_a_renamed_column_is_renamed_with_its_values_also_in_the_key(platform: Settings) -> None:
    """Added beside the old one it would be empty until each partition is served again, and the key be refused."""
    old = new_sink(platform, "replace")
    serve_through(old, platform, {"2024-01": Rows(3, 3)})
    names = {"order_id": "order_number", "amount": "price"}
    columns = tuple(
        replace(c, name=names[c.name], renamed_from=c.name) if c.name in names else c for c in CONTRACT.columns
    )
    before = query(platform.require_postgres(), f"select order_id, amount from {old.target} order by 1")
    new = replace(old, contract=replace(CONTRACT, columns=columns), key=("order_number", "line"))

    new.ensure()
    new.ensure()

    assert query(platform.require_postgres(), f"select order_number, price from {old.target} order by 1") == before


def with_types(**types: str) -> Contract:
    return replace(CONTRACT, columns=tuple(replace(c, type=types.get(c.name, c.type)) for c in CONTRACT.columns))


def test_a_wider_type_widens_the_column_and_no_other_change_of_type_does(platform: Settings) -> None:
    """What is served keeps its content, also while an attempt of before is still writing; the rest is a person's."""
    narrow, wide = with_types(amount="decimal(36,10)"), with_types(pieces="bigint")
    old, rows = replace(new_sink(platform, "upsert"), contract=narrow), {"2024-01": Rows(9, 3)}
    serve_through(old, platform, rows)
    before, dsn = served(old), platform.require_postgres()
    query(dsn, f"alter table {old.target} alter column line type varchar(400)")
    query(dsn, f"create view {old.target}_view as select amount from {old.target}")
    new = replace(old, contract=wide)

    told = r"amount is numeric\(36,10\) .* decimal\(38,10\)\. It can't be widened: .*view"
    with pytest.raises(PermanentError, match=told):
        new.ensure()
    query(dsn, f"drop view {old.target}_view")
    new.ensure()

    types = "select attname::text, format_type(atttypid, atttypmod) from pg_attribute where attrelid = to_regclass(%s)"
    found = dict(query(dsn, types, (new.target,)))
    assert (found["pieces"], found["amount"], found["line"]) == ("bigint", "numeric(38,10)", "text")
    assert served(new) == before
    assert serve_through(new, platform, {"2024-01": Rows(12, 4)}).errors == []
    for column, other in (("pieces", "int"), ("amount", "decimal(38,11)"), ("amount", "decimal(37,10)")):
        changed = with_types(**{"pieces": "bigint", column: other})
        with pytest.raises(PermanentError, match=rf"column {column} is .* Alter or drop the table"):
            replace(new, contract=changed).ensure()


def test_a_column_that_is_required_still_is(platform: Settings) -> None:
    """Only what the contract dropped is dropped from the table; the key and the platform's own rules stay."""
    sink = replace(new_sink(platform, "replace"), contract=with_nullable("amount", nullable=False))
    sink.ensure()
    sink.ensure()

    required = query(
        platform.require_postgres(),
        "select attname from pg_attribute where attrelid = to_regclass(%s) and attnum > 0 and attnotnull order by 1",
        (sink.target,),
    )
    assert required == [("amount",), ("line",), ("order_id",)]


def test_another_key_is_told_and_dropping_the_table_serves_it_anew(platform: Settings) -> None:
    """The old primary key would refuse rows that are right; the advice of the message must work."""
    rows = {"2024-01": Rows(9, 3)}
    old = new_sink(platform, "upsert")
    serve_through(old, platform, rows)
    new = replace(old, key=("order_id",))

    with pytest.raises(PermanentError, match=r"primary key is \(order_id, line\) and the manifest says \(order_id\)"):
        new.ensure()
    query(platform.require_postgres(), f"drop table {old.target}")
    done = serve_through(new, platform, rows)

    assert (done.published, done.errors) == (["2024-01"], [])
    assert query(platform.require_postgres(), f"select count(*) from {old.target}") == [(9,)]
