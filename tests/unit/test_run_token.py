"""The run token: what names a computation and what doesn't (M7)."""

import hashlib
import json

from etl_resources.run_token import InputVersion, inputs_as_json, run_token

ORDERS = InputVersion("silver.sales_orders", "2024-03", "3-00000000000000aa", epoch=7)
LINES = InputVersion("silver.sales_lines", "2024-03", "9-00000000000000bb", epoch=9)


def token(**changes: object) -> str:
    identity = {
        "tenant": "acme",
        "asset": "gdp.gdp_sales",
        "partition": "2024-03",
        "logic_version": "f" * 64,
        "inputs": (ORDERS, LINES),
    }
    return run_token(**{**identity, **changes})  # type: ignore[arg-type]


def test_a_token_is_the_same_in_every_release() -> None:
    """A token that changed with an upgrade would recompute the world (U5): this one is spelt out by hand."""
    spelt = (
        '["acme","gdp.gdp_sales","2024-03","' + "f" * 64 + '",'
        '[["silver.sales_lines","2024-03","9-00000000000000bb"],'
        '["silver.sales_orders","2024-03","3-00000000000000aa"]]]'
    )
    assert token() == hashlib.sha256(spelt.encode()).hexdigest()


def test_the_epoch_of_an_input_is_not_part_of_the_token() -> None:
    """The same content published again must not recompute what was made from it (early cut-off)."""
    republished = InputVersion(ORDERS.asset, ORDERS.partition, ORDERS.version, epoch=99)
    assert token(inputs=(republished, LINES)) == token()


def test_inputs_are_evidence_with_their_epoch() -> None:
    """The ledger needs the epoch to find the capture behind an input; it is kept beside the token."""
    kept = json.loads(json.dumps(inputs_as_json([ORDERS])))
    assert [InputVersion(**entry) for entry in kept] == [ORDERS]
