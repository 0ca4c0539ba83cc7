"""Of which captures a table is: of every one that gives its inputs the content that they have."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from psycopg.types.json import Jsonb

from etl_resources.ledger.ledger import Ledger
from etl_resources.ledger.lineage import capture_epochs
from etl_resources.run_token import InputVersion, inputs_as_json
from etl_resources.settings import load_settings

pytest_plugins = ["tests.search_target"]
MONTH = "2024-01"


class Book:
    """A ledger in which each capture takes orders and lines."""

    def __init__(self, ledger: Ledger) -> None:
        self.connection = ledger.connection

    def publish(self, asset: str, version: str, epoch: int, inputs: Sequence[InputVersion]) -> InputVersion:
        self.connection.execute(
            "insert into etl.publishes (asset, partition, epoch, token, version, rows, size_bytes, inputs, attempt, "
            "run_id) values (%s, %s, %s, 't', %s, 1, 1, %s, 'a', 'r')",
            (asset, MONTH, epoch, version, Jsonb(inputs_as_json(inputs))),
        )
        return InputVersion(asset, MONTH, version, epoch)

    def capture(self, epoch: int, orders: str, lines: str) -> tuple[InputVersion, InputVersion]:
        captured = [
            self.publish(f"bronze.{table}", version, epoch, [InputVersion(f"erp/erp.{table}", MONTH, version)])
            for table, version in (("orders", orders), ("lines", lines))
        ]
        return captured[0], captured[1]

    def epochs(self, *inputs: InputVersion) -> set[int]:
        found = capture_epochs(self.connection, inputs)
        assert found.keys() == {("erp", MONTH)}
        return found["erp", MONTH]


@pytest.fixture
def book(search_ledger: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Book]:
    monkeypatch.setenv("ETL_POSTGRES_DSN", search_ledger)
    with Ledger.rehearse(load_settings()) as ledger:
        yield Book(ledger)


def test_a_content_is_of_the_later_captures_that_give_it_again(book: Book) -> None:
    """Rows that silver rejects, and unchanged months, leave what is made from them as it was."""
    orders, lines = book.capture(1, "o1", "l1")
    silver_orders = book.publish("silver.orders", "so1", 2, [orders])
    silver_lines = book.publish("silver.lines", "sl1", 3, [lines])
    sales = book.publish("gdp.sales", "g1", 4, [silver_orders, silver_lines])
    assert book.epochs(sales) == {1}

    _, rejected = book.capture(10, "o1", "l2")
    again = book.publish("silver.lines", "sl1", 11, [rejected])

    assert book.epochs(sales) == book.epochs(silver_orders, silver_lines) == {1, 10}
    assert book.epochs(again) == {10}, "what was read at that moment was made of the later capture alone"


def test_contents_of_no_common_capture_have_none(book: Book) -> None:
    """Orders of one moment with lines of another make no consistent day."""
    orders, lines = book.capture(1, "o1", "l1")
    silver_orders = book.publish("silver.orders", "so1", 2, [orders])
    silver_lines = book.publish("silver.lines", "sl1", 3, [lines])
    newer, rejected = book.capture(20, "o2", "l2")
    newer_orders = book.publish("silver.orders", "so2", 21, [newer])
    assert book.epochs(newer_orders, silver_lines) == set()

    book.publish("silver.lines", "sl1", 22, [rejected])
    assert book.epochs(newer_orders, silver_lines) == {20}, "its lines were found to be the same"
    assert book.epochs(silver_orders, silver_lines) == {1}

    torn = book.publish("gdp.sales", "g2", 23, [silver_orders, replace(silver_lines, epoch=22)])
    assert book.epochs(torn) == set()


def test_other_months_and_lookups_were_captured_at_their_own_time(book: Book) -> None:
    orders, lines = book.capture(1, "o1", "l1")
    later, _ = book.capture(30, "o3", "l1")
    other = replace(orders, partition="2023-12")
    looked_up = replace(later, looked_up=True)
    sales = book.publish("gdp.sales", "g1", 31, [lines, orders, other, looked_up])
    assert book.epochs(sales) == {1}
    assert book.epochs(sales, looked_up) == {1}
