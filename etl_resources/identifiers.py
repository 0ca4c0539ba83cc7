"""Quoting of SQL identifiers and literals, for the places where a parameter can't stand."""


def quote(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_qualified(name: str) -> str:
    """A quoted schema.table."""
    return ".".join(quote(part) for part in name.split("."))


def literal(value: str) -> str:
    """A quoted string literal, for DuckDB statements that take no parameter (COPY, ATTACH, SET)."""
    return "'" + value.replace("'", "''") + "'"
