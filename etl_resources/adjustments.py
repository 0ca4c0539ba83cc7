"""Adjustments of closed partitions: rows by which what is published of a table differs from what its inputs give.

closed + Σ adjustments = restated, exactly, for every column: a row that is no longer right is booked out (`reversal`,
its measures negated), a row that is right by now is booked in (`booking`). What was booked once stays; another change,
also one back to the closed figures, is booked on top. So the next entries follow from three relations alone, whatever
died in between: what is published (T), what is booked (B), what the inputs give (R): R - T - B.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from etl_resources.calendar import PERIOD
from etl_resources.contract import Contract, ContractColumn
from etl_resources.identifiers import quote, quote_qualified
from etl_resources.ledger.lineage import control_input
from etl_resources.run_token import InputVersion

SUFFIX = "_adjustments"
SCHEMA = "adjusted"
BOOKED, RESTATED, ENTRY = f"{SCHEMA}.booked", f"{SCHEMA}.restated", f"{SCHEMA}.entry"
"""Relations that the platform gives: adjustments so far, what the inputs give, and who found the difference when."""
REVERSAL, BOOKING = "reversal", "booking"
PERIOD_COLUMN = "adjusted_period"
OWN: dict[str, tuple[str, str]] = {
    PERIOD_COLUMN: ("date", "First day of the closed period that is adjusted"),
    "adjustment": ("bigint", "Number of the adjustment in its period: 1, 2, 3 …"),
    "line": ("bigint", "Number of the entry in its adjustment"),
    "entry": ("string", f"{REVERSAL}: a row that was right before, its measures negated; {BOOKING}: one that is now"),
    "adjusted_on": ("date", "Day on which the difference was found"),
    "adjusted_by_run": ("string", "Run that found it"),
    "adjusted_because": ("string", "Inputs that changed"),
}
"""Columns of adjustments beside those of the table: type and meaning."""
KEY = (PERIOD_COLUMN, "adjustment", "line")


@dataclass(frozen=True)
class Adjusted:
    """A table whose closed partitions are adjusted."""

    table: str
    contract: Contract
    measures: tuple[str, ...]
    """Its columns that are summed."""


def restated_input(table: str) -> str:
    """What a table's inputs give, as an input of its adjustments."""
    return control_input(f"restated@{table}")


def is_restated(asset: str) -> bool:
    """Whether an input is what the inputs of an adjusted table give."""
    return asset.startswith(control_input("restated@"))


def restated_version(table: str, partition: str, version: str, restated: str | None, epoch: int) -> InputVersion:
    """Version of that: another content than the published one only where the partition is closed."""
    return InputVersion(restated_input(table), partition, restated or version, epoch, looked_up=True)


def adjustments_contract(adjusted: Adjusted) -> Contract:
    """Columns of adjustments: their own, then the table's without its rules, which negated measures don't keep."""
    own = [ContractColumn(n, t, nullable=False, description=told) for n, (t, told) in OWN.items()]
    theirs = [replace(c, rules=(), reason=None) for c in adjusted.contract.columns]
    return Contract((*own, *theirs), KEY, PERIOD_COLUMN)


def lineage_sql(adjusted: Adjusted) -> str:
    """Where the columns of adjustments come from, for whoever reads SQL instead of running it."""
    own = ",\n".join(f"    {_typed('null', t)} as {quote(n)}" for n, (t, _) in OWN.items())
    theirs = ",\n".join(f"    {quote(n)}" for n in adjusted.contract.names)
    return f"select\n{own},\n{theirs}\nfrom {adjusted.table}\n"


def adjustments_sql(adjusted: Adjusted) -> str:
    """All adjustments of a partition: those so far, and what is missing to what its inputs give."""
    names = adjusted.contract.names
    columns = ", ".join(map(quote, names))
    booked = ", ".join(_turned(n, adjusted.measures) for n in (*OWN, *names))
    order = ", ".join((*map(quote, adjusted.contract.key), "etl_n", columns))
    return (
        f"with etl_new as ("
        f"select {columns}, etl_n, row_number() over (order by {order}) as etl_line "
        f"from ({_missing(adjusted)}) cross join unnest(range(abs(etl_n))) "
        "), etl_entries as ("
        f"select p.start_date as {PERIOD_COLUMN}, "
        f"(select coalesce(max(adjustment), 0) + 1 from {BOOKED})::bigint as adjustment, etl_line::bigint as line, "
        f"case when etl_n > 0 then '{BOOKING}' else '{REVERSAL}' end as entry, "
        f"e.adjusted_on, e.adjusted_by_run, e.adjusted_because, {columns} "
        f"from etl_new cross join {PERIOD} p cross join {ENTRY} e) "
        f"select {', '.join(map(quote, (*OWN, *names)))} from {BOOKED} union all select {booked} from etl_entries"
    )


def net_rows(adjusted: Adjusted, table: str, booked: str) -> str:
    """Table expression: the rows of a partition with all its adjustments. table, booked: table expressions."""
    columns = ", ".join(map(quote, adjusted.contract.names))
    rows = f"({_counted(adjusted, '1', table)} union all {_booked(adjusted, booked)})"
    return f"(select {columns} from {rows} group by {columns} having sum(etl_n) > 0)"


def _missing(adjusted: Adjusted) -> str:
    """Query: rows that are to be booked in (etl_n times) or out (etl_n negative)."""
    columns = ", ".join(map(quote, adjusted.contract.names))
    return (
        f"select {columns}, sum(etl_n)::bigint as etl_n from ("
        f"{_counted(adjusted, '1', RESTATED)} union all {_counted(adjusted, '-1', quote_qualified(adjusted.table))} "
        f"union all select {columns}, -etl_n from ({_booked(adjusted, BOOKED)})"
        f") group by {columns} having sum(etl_n) <> 0"
    )


def _counted(adjusted: Adjusted, n: str, relation: str) -> str:
    return f"select {', '.join(map(quote, adjusted.contract.names))}, {n} as etl_n from {relation}"


def _booked(adjusted: Adjusted, relation: str) -> str:
    """The entries as rows of the table, how often each is booked."""
    columns = ", ".join(_turned(n, adjusted.measures) for n in adjusted.contract.names)
    return f"select {columns}, case entry when '{BOOKING}' then 1 else -1 end as etl_n from {relation}"


def _turned(name: str, measures: Sequence[str]) -> str:
    """A measure has the other sign in a reversal."""
    return (
        f"case entry when '{REVERSAL}' then -{quote(name)} else {quote(name)} end as {quote(name)}"
        if (name in measures)
        else quote(name)
    )


def _typed(value: str, manifest_type: str) -> str:
    from etl_resources.tables.schema import duckdb_type

    return f"cast({value} as {duckdb_type(manifest_type)})"
