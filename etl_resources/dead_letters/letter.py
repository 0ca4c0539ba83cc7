"""What a dead letter is made of: the one place in which a rejected row becomes one.

A letter's identity (`letter`) hashes its row, payload and rules: a row that is rejected again as it was is the same
letter, a changed one is another. `row_id` is the row's alone: its source with its key, or, where the key isn't whole,
with its payload. Neither has the run in it, nor the row's place in its file.
"""

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from etl_resources.calendar import WHOLE, bounds
from etl_resources.contract import Contract, ContractColumn
from etl_resources.conventions import META_RUN_ID
from etl_resources.extract.batch_stream import LACKING, ORIGIN, SOURCE_ROW
from etl_resources.identifiers import literal, quote

if TYPE_CHECKING:
    import duckdb

_PLACE = (ORIGIN, SOURCE_ROW, LACKING, META_RUN_ID)
"""Columns of rows that tell where they are from, and are no part of a letter's identity."""
LETTERS = Contract(
    (
        ContractColumn("letter", "string", nullable=False, description="Identity: row, payload and rules"),
        ContractColumn("row_id", "string", nullable=False, description="Source with key; else with payload"),
        ContractColumn("period", "date", description="First day of the partition's period; null: no partitions"),
        ContractColumn("partition", "string", nullable=False, description="Partition of the table"),
        ContractColumn("epoch", "bigint", nullable=False, description="Epoch of the attempt"),
        ContractColumn("attempt", "string", nullable=False, description="Attempt that rejected the row"),
        ContractColumn("run_id", "string", nullable=False, description="Run of the attempt"),
        ContractColumn("token", "string", description="Run token; null: a capture's, known only afterwards"),
        ContractColumn("rule", "string", description="Of the first reason: ge, type, not_null, reference, …"),
        ContractColumn("column_name", "string", description="Of the first reason; null: the row as a whole"),
        ContractColumn("value", "string", description="Offending value as it came, as text"),
        ContractColumn("reason", "string", nullable=False, description="Texts of all reasons"),
        ContractColumn("reasons", "string", nullable=False, description="JSON: rule, column_name, value, reason"),
        ContractColumn("source", "string", description="File, page or table that the row is from"),
        ContractColumn("source_row", "bigint", description="Number of the row in its file, if known"),
        ContractColumn("key", "string", nullable=False, description="JSON: the key"),
        ContractColumn("payload", "string", nullable=False, description="JSON: the row as it came"),
        ContractColumn("first_seen", "timestamptz", nullable=False, description="First publish that rejected it"),
        ContractColumn("last_seen", "timestamptz", nullable=False, description="This attempt"),
        ContractColumn("seen", "bigint", nullable=False, description="Publishes that rejected it, one after another"),
    ),
    ("letter",),
    "period",
)
"""Columns of every letters table. A row with several broken rules is one letter."""
REASONS_SHAPE = '[{"rule":"VARCHAR","column_name":"VARCHAR","value":"VARCHAR","reason":"VARCHAR"}]'
"""Of `reasons`, for DuckDB's from_json."""


def payload_columns(engine: "duckdb.DuckDBPyConnection", judged: str) -> list[str]:
    """Columns of the rows as they came."""
    described = engine.execute(f"select column_name from (describe select unnest(_payload) from {judged})")
    return [name for (name,) in described.fetchall()]


def rendered(judged: str, key: Sequence[str]) -> str:
    """Query: what a letter tells of each rejected row: `_payload` as it came, `_key`, whether it is whole (`_keyed`).

    The only way of values into a letter: payload, identity and offending values are made of `_payload`. What must not
    get into one is taken out here, of both.
    """
    keys = ", ".join(f"{quote(k)} := {quote(k)}" for k in key)
    whole = " and ".join(f"{quote(k)} is not null" for k in key)
    return (
        f"select _reasons, _payload, struct_pack({keys}) as _key, {whole} as _keyed "
        f"from {judged} where len(_reasons) > 0"
    )


def letters_of_judged(judged: str, key: Sequence[str], produced: Collection[str], source: str) -> str:
    """Query: identity and content of a letter for each rejected row of table `judged`.

    produced: columns of its `_payload`. source: where rows are from that don't say so themselves.
    """
    origin = f"_payload.{ORIGIN}" if ORIGIN in produced else literal(source)
    number = f"_payload.{SOURCE_ROW}" if SOURCE_ROW in produced else "null"
    own = ", ".join(f"{quote(c)} := _payload.{quote(c)}" for c in produced if c not in _PLACE)
    values = " ".join(f"when {literal(c)} then _payload.{quote(c)}::varchar" for c in produced)
    return (
        "select md5(concat_ws(chr(31), _source, case when _keyed then _key else _content end)) as row_id, "
        "md5(concat_ws(chr(31), _source, _key, _content, to_json(list_transform(_told, "
        "lambda r: [r.rule, r.column_name])))) as letter, "
        "_told[1].rule as rule, _told[1].column_name as column_name, _told[1].value as value, "
        "array_to_string(list_transform(_told, lambda r: r.reason), '; ') as reason, "
        "to_json(_told)::varchar as reasons, _source as source, _number as source_row, _key as key, payload "
        "from (select *, payload: _doc::varchar, _told: list_transform(_reasons, lambda r: "
        "{'rule': r.rule, 'column_name': r.\"column\", "
        f"'value': case r.\"column\" {values} end, 'reason': r.reason}}) "
        "from (select _reasons, _payload, _keyed, _doc: to_json(_payload), _key: to_json(_key)::varchar, "
        f"_content: to_json(struct_pack({own}))::varchar, _source: {origin}, _number: {number}::bigint "
        f"from ({rendered(judged, key)})))"
    )


def letters_of_refused(refused: str, source: str) -> str:
    """As `letters_of_judged`, of what a store refused: a query of (reason, key, payload), the latter two JSON."""
    told = "[{'rule': 'refused', 'column_name': null::varchar, 'value': null::varchar, 'reason': reason}]"
    return (
        f"select md5(concat_ws(chr(31), {literal(source)}, key)) as row_id, "
        f"md5(concat_ws(chr(31), {literal(source)}, key, payload, 'refused')) as letter, 'refused' as rule, "
        f"null::varchar as column_name, null::varchar as value, reason, to_json({told})::varchar as reasons, "
        f"{literal(source)} as source, null::bigint as source_row, key, payload "
        f"from ({refused}) as refused(reason, key, payload)"
    )


def exact_value(column: str) -> str:
    """DuckDB expression on a letter: a value of its payload as text, with all digits.

    The engine's own JSON functions read a number as a double, which loses cents beyond 15 digits. A text is taken from
    the engine, a number from the text of the payload; that it is the right one is proved by the double.
    """
    value = f"(payload ->> {literal(f'$.{quote(column)}')})"
    written = f"{re.escape(quote(column))}:(-?[0-9][0-9.eE+-]*)[,}}]"
    number = f"nullif(regexp_extract(payload, {literal(written)}, 1), '')"
    return (
        f"case when {number} is null then {value} when {number}::double = try_cast({value} as double) then {number} "
        f"else error({literal(f'{column} of a dead letter has no number that can be read exactly')}) end"
    )


def period_of(partition: str) -> str:
    """DuckDB expression: first day of a partition's period."""
    return "null::date" if partition == WHOLE else f"date '{bounds(partition)[0]}'"
