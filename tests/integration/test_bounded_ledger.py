"""Plans and ticks read as much of the ledger as there are partitions, however often these were published or tried."""

import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

from etl_assets.automation.reconcile_tick import _levels
from etl_resources.closure import ClosureNode
from etl_resources.ledger.connection import connect, migrate
from etl_resources.ledger.freshness import sights
from etl_resources.ledger.history import read_history
from etl_resources.ledger.marks import forget_published
from etl_resources.ledger.state import read_state
from etl_resources.reconcile import Rules
from tests.databases import new_databases

ASSETS, MONTHS = ("bronze.a", "silver.a", "kpi.a"), 12
HISTORY = """
with attempts as (
    select asset, a, n, asset || '-' || n as attempt from unnest(%(assets)s::text[]) with ordinality of(asset, a)
    cross join generate_series(%(first)s::int, %(last)s::int) n
), opened as (
    insert into etl.intents (attempt, asset, run_id, state, settled_at)
    select attempt, asset, 'r', case when n %% 10 = 0 then 'failed' else 'published' end, now() + n * interval '1 s'
    from attempts returning attempt
)
insert into etl.intent_partitions (attempt, partition, epoch, inputs)
select attempt, '2024-' || lpad(month::text, 2, '0'), 10 * n + a, '[]'
from attempts join opened using (attempt) cross join generate_series(1, %(months)s::int) month
"""
PUBLISHED = """
insert into etl.publishes (asset, partition, epoch, token, version, alias_of, rows, size_bytes, inputs, attempt, run_id)
select i.asset, p.partition, p.epoch, p.epoch, (p.epoch / 100)::text, nullif(p.epoch %% 2, 0), 7, p.epoch %% 100,
       jsonb_build_array(jsonb_build_object('asset', 'bronze.a', 'partition', p.partition, 'version', '', 'epoch', 1)),
       attempt, 'r'
from etl.intents i join etl.intent_partitions p using (attempt)
where i.state = 'published' and p.epoch between 10 * %(first)s and 10 * %(last)s + 9
"""
TOTALS = """
with taken as (
    insert into etl.captures (epoch, system, run_id)
    select n, 'erp', 'r' from generate_series(%(first)s::int, %(last)s::int) n returning epoch
)
insert into etl.control_totals select epoch, 'c', '2024-' || lpad(month::text, 2, '0'), '{}'
from taken cross join generate_series(1, %(months)s::int) month
"""
BY_HISTORY = """
select p.asset, p.partition, p.epoch, case when alias_of is null then size_bytes else (
    select max(size_bytes) from etl.publishes x
    where (x.asset, x.partition, x.version) = (p.asset, p.partition, p.version)) end
from (select distinct on (asset, partition) * from etl.publishes order by asset, partition, epoch desc) p order by 1, 2
"""


@pytest.fixture
def ledger(stack: object) -> Iterator[Callable[[], psycopg.Connection]]:
    """Connections to a migrated ledger of its own."""
    with new_databases("ledger") as create:
        dsn, opened = create(), []

        def another() -> psycopg.Connection:
            opened.append(connect(dsn, setting="a test"))
            migrate(opened[-1])
            return opened[-1]

        yield another
        for connection in opened:
            connection.close()


def happen(connection: psycopg.Connection, first: int, last: int) -> None:
    """Every partition is tried so often; of ten tries one fails."""
    values = {"assets": list(ASSETS), "months": MONTHS, "first": first, "last": last}
    for statement in (HISTORY, PUBLISHED, TOTALS):
        connection.execute(statement, values)


def rows_read(connection: psycopg.Connection) -> dict[str, int]:
    """Table → its rows that all questions of one tick, of the metrics of freshness and of one plan read."""
    nodes = [ClosureNode(a, "acme", "1", ("2024-01",)) for a in ASSETS]

    def so_far() -> dict[str, int]:
        connection.execute("select pg_stat_force_next_flush()")
        rows = connection.execute(
            "select relname, seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_user_tables "
            "where schemaname = 'etl'"
        )
        return {table: int(read) for table, read in rows}

    before = so_far()
    state = read_state(connection, ASSETS, (), ["c"])
    assert {len(of) for of in state.published.values()} == {MONTHS}
    assert len(state.ended) == len(state.newest_totals) * len(ASSETS) == MONTHS * len(ASSETS)
    assert len(_levels(connection, nodes, Rules())) == len(ASSETS)
    forget_published(connection)
    sights(connection)
    assert len(read_history(connection, ASSETS).attempts["kpi.a"]) <= 40
    return {table: read - before[table] for table, read in so_far().items()}


def test_what_a_tick_and_a_plan_read_does_not_grow_with_history(
    ledger: Callable[[], psycopg.Connection],
) -> None:
    """A year of late data is some thousand publishes of every partition: the last tick must cost what the first did."""
    connection = ledger()
    happen(connection, 1, 50)
    connection.execute("analyze")
    few = rows_read(connection)
    happen(connection, 51, 1000)
    connection.execute("analyze")

    many = rows_read(connection)

    assert sum(many.values()) <= 1.5 * sum(few.values()), (few, many)


def test_the_newest_is_known_in_whatever_order_rows_come_and_go(
    ledger: Callable[[], psycopg.Connection],
) -> None:
    """Recovery puts publishes back in any order, two runs record at once, and a ledger may lose rows."""
    connection = ledger()
    newest = "select * from etl.newest_publishes order by 1, 2"
    for first, last in ((40, 60), (1, 20), (21, 39)):
        happen(connection, first, last)
    assert connection.execute(newest).fetchall() == connection.execute(BY_HISTORY).fetchall()

    def record(first: int) -> None:
        mine = ledger()
        for n in range(first, first + 40, 2):
            happen(mine, n, n)

    writers = [threading.Thread(target=record, args=(first,)) for first in (61, 62)]
    for w in writers:
        w.start()
    for w in writers:
        w.join()
    assert connection.execute("select count(*) from etl.publishes").fetchone() == (90 * MONTHS * len(ASSETS),)
    assert connection.execute(newest).fetchall() == connection.execute(BY_HISTORY).fetchall()

    connection.execute("delete from etl.publishes where epoch > 500 or partition = '2024-03'")
    assert connection.execute(newest).fetchall() == connection.execute(BY_HISTORY).fetchall()
    intents = "select distinct epoch from etl.newest_intents order by 1"
    assert connection.execute(intents).fetchall() == [(1001,), (1002,), (1003,)]
    connection.execute("truncate etl.publishes, etl.intent_partitions, etl.intents cascade")
    assert connection.execute(
        "select (select count(*) from etl.newest_publishes), count(*) from etl.newest_intents"
    ).fetchone() == (0, 0)
