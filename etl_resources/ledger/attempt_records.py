"""What the ledger knows of one attempt, as one JSON text: kept beside the data, and put back when the ledger lost it.

The text is made and read by Postgres: a decimal of a control total never passes through a float. It holds whole rows,
so a column that a later migration adds must allow null, or have its value filled in here.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from etl_resources.errors import TransientError

if TYPE_CHECKING:
    import psycopg

_OF_ATTEMPT = """
with mine as (select * from etl.intent_partitions where attempt = %(attempt)s and staged is not null)
select jsonb_build_object(
    'intent', to_jsonb(i),
    'partitions', (select jsonb_agg(to_jsonb(m) order by partition) from mine m),
    'captures', (select jsonb_agg(to_jsonb(c)) from etl.captures c where epoch in (select epoch from mine)),
    'control_totals', (select jsonb_agg(to_jsonb(t)) from etl.control_totals t
                       where (epoch, partition) in (select epoch, partition from mine)),
    'pins', (select jsonb_agg(to_jsonb(p)) from etl.pins p where p.attempt = i.attempt),
    'closings', (select jsonb_agg(to_jsonb(c) || jsonb_build_object('state', k.state))
                 from etl.closings c join mine on mine.partition = c.partition
                 left join etl.known_closings k
                     on (k.attempt, k.asset, k.partition) = (c.attempt, c.asset, c.partition)
                 where c.asset = i.asset and (c.attempt = i.attempt or k.attempt is not null)),
    'notices', (select jsonb_agg(to_jsonb(n)) from (
                    select * from etl.notices where asset = i.asset order by sent_at desc limit %(most)s) n)
)::text, (select max(epoch) from mine)
from etl.intents i where i.attempt = %(attempt)s
"""

_OF_PARTITIONS = """
select p.partition, jsonb_build_object('intent', to_jsonb(i), 'partitions', jsonb_build_array(to_jsonb(p)))::text
from etl.intents i join etl.intent_partitions p using (attempt)
where attempt = %s and p.staged is not null
"""

_RESTORED = {  # in the order of their foreign keys
    "intents": "select jsonb_array_elements(jsonb_build_array(doc -> 'intent')) as row",
    "intent_partitions": "select jsonb_array_elements(doc -> 'partitions') as row",
    "captures": "select jsonb_array_elements(nullif(doc -> 'captures', 'null')) as row",
    "control_totals": "select jsonb_array_elements(nullif(doc -> 'control_totals', 'null')) as row",
}
_RESTORED_PINS = """
insert into etl.pins select r.* from
(select jsonb_array_elements(nullif(%(doc)s::jsonb -> 'pins', 'null')) as row) d,
jsonb_populate_record(null::etl.pins, d.row) r
where r.partition = any(%(current)s) on conflict do nothing
"""
_RESTORED_CLOSINGS = """
insert into etl.closings select r.* from
(select jsonb_array_elements(nullif(%(doc)s::jsonb -> 'closings', 'null')) as row) d,
jsonb_populate_record(null::etl.closings, d.row) r
where d.row ->> 'state' is distinct from 'open' or r.tag = any(%(tags)s)
      or r.attempt = %(doc)s::jsonb -> 'intent' ->> 'attempt'
on conflict do nothing
"""
_RESTORED_NOTICES = """
insert into etl.notices select r.* from
(select jsonb_array_elements(nullif(%(doc)s::jsonb -> 'notices', 'null')) as row) d,
jsonb_populate_record(null::etl.notices, d.row) r on conflict do nothing
"""
NOTICES_MAX = 1_000
"""Of a table, the newest: consumers were told of so many restatements."""


def attempt_record(connection: "psycopg.Connection[Any]", attempt: str) -> tuple[int, str]:
    """(epoch, record) of a staged attempt: its intent, partitions, pins, the closings of them, the totals of its
    capture, and of which restatements of its table consumers were told.

    Raises TransientError when the ledger lost the attempt meanwhile: what has no evidence isn't published.
    """
    row = connection.execute(_OF_ATTEMPT, {"attempt": attempt, "most": NOTICES_MAX}).fetchone()
    if row is None or row[1] is None:
        raise TransientError(f"The ledger lost the intent of attempt {attempt}: it may not publish. Run again.")
    return int(row[1]), str(row[0])


def partition_records(connection: "psycopg.Connection[Any]", attempt: str) -> Mapping[str, str]:
    """Partition → its record alone, for a store that keeps one row per partition. Raises as `attempt_record`."""
    records = dict(connection.execute(_OF_PARTITIONS, (attempt,)).fetchall())
    if not records:
        raise TransientError(f"The ledger lost the intent of attempt {attempt}: it may not publish. Run again.")
    return records


def restore_attempt(
    connection: "psycopg.Connection[Any]", record: str, current: Collection[str], tags: Collection[str] = ()
) -> None:
    """Put back rows that are missing; those that are there stay as they are.

    current: partitions that the attempt is the newest publish of. Only their pins come back: a partition that was
    published again was unpinned. tags: of the table. A closing by somebody else that was under way comes back only if
    it came to its tag: this attempt may have fenced it.
    """
    for table, rows in _RESTORED.items():
        connection.execute(
            f"insert into etl.{table} select r.* from (with d as (select %s::jsonb as doc) {rows} from d) found, "
            f"jsonb_populate_record(null::etl.{table}, found.row) r on conflict do nothing".encode(),
            (record,),
        )
    connection.execute(_RESTORED_PINS, {"doc": record, "current": list(current)})
    connection.execute(_RESTORED_CLOSINGS, {"doc": record, "tags": list(tags)})
    connection.execute(_RESTORED_NOTICES, {"doc": record})


def raise_epoch(connection: "psycopg.Connection[Any]", above: int) -> None:
    """Epochs drawn from now on are greater than `above` and than every publish: a new sequence begins at 1."""
    connection.execute(
        "select setval('etl.epoch', newest) from etl.epoch, "
        "(select greatest(%s, (select max(epoch) from etl.newest_publishes)) as newest) n where last_value < newest",
        (above,),
    )
