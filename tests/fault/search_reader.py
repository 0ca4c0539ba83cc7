"""A reader that searches a target's alias all the time: each answer must be whole contents that were published."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from etl_resources.sinks.elasticsearch_client import connect
from tests.search_target import Rows, SearchTarget

PAUSE_S = 0.02
Seen = Counter[tuple[str, str]]
"""(order_id, amount) → how often, in one answer."""


@dataclass
class SearchReader:
    """What the answers held."""

    target: SearchTarget
    answers: list[Seen] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    def loop(self, done: threading.Event) -> None:
        try:
            with connect(self.target.settings, exact=True) as client:
                while True:
                    last = done.wait(PAUSE_S)
                    found = client.search(
                        index=self.target.name, size=10_000, allow_partial_search_results=False, ignore_unavailable=True
                    ).body
                    seen = _seen(hit["_source"] for hit in found["hits"]["hits"])
                    if not self.answers or self.answers[-1] != seen:
                        self.answers.append(seen)
                    if last:
                        return
        except Exception as e:  # noqa: BLE001  (told by prove)
            self.errors.append(e)

    def prove(self, contents: Sequence[Mapping[str, Rows]]) -> None:
        """Every answer is one of these contents, and none comes back after a later one."""
        if self.errors:
            raise self.errors[0]
        whole = [_of_rows(c) for c in contents]
        for seen in self.answers:
            assert seen in whole, f"an answer with {seen.total()} documents is no whole content"
        order = [whole.index(seen) for seen in self.answers]
        assert order == sorted(order), f"contents were seen in the order {order}"


def _seen(sources: Iterator[Any]) -> Seen:
    return Counter((str(s["order_id"]), str(s["amount"])) for s in sources)


def _of_rows(rows: Mapping[str, Rows]) -> Seen:
    import duckdb

    found: Seen = Counter()
    with duckdb.connect() as engine:
        for partition, content in rows.items():
            scan = (
                f"select order_id::varchar, amount::varchar from {content.scan(partition)} where isfinite(order_date)"
            )
            found.update(engine.execute(scan).fetchall())
    return found


@contextmanager
def searching(target: SearchTarget, contents: Sequence[Mapping[str, Rows]]) -> Iterator[SearchReader]:
    """A reader beside what the test does; afterwards it must have seen nothing but these contents, in this order."""
    reader, done = SearchReader(target), threading.Event()
    thread = threading.Thread(target=reader.loop, args=(done,))
    thread.start()
    try:
        yield reader
    finally:
        done.set()
        thread.join()
    reader.prove(contents)
