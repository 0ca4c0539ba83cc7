"""Dead letters of a partition for the web UI: a bounded table of reasons, each with a sample."""

import json

from etl_resources.dead_letters.index import WrittenLetters, printable

REASONS_SHOWN = 10
CHARS_SHOWN = 80


def letters_table(letters: WrittenLetters) -> str:
    """Markdown: the most frequent reasons with rule, column, rows, and key and value of one row."""
    lines = ["| rows | rule | column | reason | key | value |", "|---:|---|---|---|---|---|"]
    for r in letters.reasons[:REASONS_SHOWN]:
        sample = json.loads(r.sample)
        cells = (r.rule, r.column, r.reason, sample.get("key"), sample.get("value"))
        lines.append(f"| {r.rows:,} | {' | '.join(map(_cell, cells))} |")
    if more := letters.reasons[REASONS_SHOWN:]:
        lines.append(f"| {sum(r.rows for r in more):,} | | | {len(more)} more reasons | | |")
    return "\n".join(lines)


def _cell(text: str | None) -> str:
    """One line of it, with nothing that ends a cell or that a terminal acts upon."""
    shown = "" if text is None else text if len(text) <= CHARS_SHOWN else f"{text[: CHARS_SHOWN - 1]}…"
    return printable(shown).replace("|", "¦")
