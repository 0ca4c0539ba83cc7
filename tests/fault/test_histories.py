"""Late data: random histories of changes in three kinds of sources, against an oracle and a full restatement.

`--histories N` plays N new ones, `--fault-seed S` the same ones again, S:I only the I-th; without both: two known ones.
"""

import random
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.histories.play import History, play
from tests.mutated import Mutation
from tests.search_target import search_variables

pytestmark = pytest.mark.timeout(3 * 3600)
HISTORIES, SEED = 2, 963712
"""What is played when nobody asks for more."""


@pytest.fixture(scope="module")
def searching(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """Settings of Elasticsearch; none without Java: everything else is tested then."""
    try:
        request.getfixturevalue("search")
    except pytest.skip.Exception:
        return {}
    return search_variables()


def test_every_history_settles_to_what_a_restatement_gives(
    stack: object, searching: Mapping[str, str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The recomputed set is the oracle's, every table equals a full restatement, nothing is lost or doubled."""
    given, _, only = (request.config.getoption("fault_seed") or "").partition(":")
    wanted = request.config.getoption("histories")
    seed = int(given or (random.randrange(10**6) if wanted else SEED))
    numbers = [int(only)] if only else range(wanted or HISTORIES)
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")

    def tell(line: str) -> None:
        if reporter is None:  # a worker of pytest-xdist: shown with a failure
            sys.stdout.write(f"{line}\n")
        else:
            reporter.write(f"{line}\n", flush=True)

    tell(f"\n--histories {len(numbers)} --fault-seed {seed}")
    failures = list[str]()
    for number in numbers:
        history = History.draw(seed, number)
        try:
            play(history, tmp_path / str(number), searching, tell)
        except Exception:  # noqa: BLE001  (reported with its replay)
            failures.append(f"{history}\n{traceback.format_exc()}")
            tell(f"FAILED: {failures[-1]}")
    assert not failures, "\n\n".join(failures)


FAULTS = {
    "the watermark passes open transactions": (
        Mutation("etl_resources.extract.watermark", "read_bound", "if oldest is not None and oldest < until:", "if 0:"),
        ("begin_late", "insert_order", "tick", "change_amount", "tick", "commit_late"),
        "not published",
    ),
    "a row that moved stays in its old month": (
        Mutation(
            "etl_assets.graph.capture_step", "CaptureStep._capture",
            "sorted({p for pair in moves for p in pair} - captured - self._pins.keys())", "[]",
        ),
        ("move_order", "move_order", "move_order"),
        "",
    ),
    "what was looked up is taken for unchanged": (
        Mutation(
            "etl_resources.closure", "Closure._as_before",
            "if self.state.whole_versions.get((table.asset, before[0].epoch)) == table.version", "if table.version",
        ),
        ("change_segment", "change_segment", "restate_rate", "restate_rate", "remove_customer_row"),
        "not published",
    ),
    "any change of a looked-up table is one of every month": (
        Mutation(
            "etl_resources.looked_up", "Lookups._version",
            "version = self._evaluate(lookup, pinned, source)", "version = looked_up.version",
        ),
        ("add_unrelated_customer",),
        "computed without need",
    ),
}  # fmt: skip
"""What is wrong: the product with it, the changes that show it, what is said."""


@pytest.mark.long
@pytest.mark.parametrize("name", FAULTS)
def test_a_product_with_this_fault_is_found_out(stack: object, name: str, tmp_path: Path) -> None:
    """Histories that no fault of the product fails prove nothing."""
    mutation, script, told = FAULTS[name]
    with mutation.made(), pytest.raises(AssertionError, match=told):
        play(History(1, 0, script=script), tmp_path, {}, print)
