"""Late data: random histories of changes in three kinds of sources, against an oracle and a full restatement.

`--histories N` plays N of them, `--fault-seed S` the same ones again, S:I only the I-th.
"""

import random
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.histories.play import History, play
from tests.search_target import search_variables

pytestmark = pytest.mark.timeout(3 * 3600)


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
    seed = int(given or random.randrange(10**6))
    numbers = [int(only)] if only else range(request.config.getoption("histories"))
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
        except Exception as e:  # noqa: BLE001  (reported with its replay)
            failures.append(f"{history}\n{type(e).__name__}: {e}")
            tell(f"FAILED: {history}: {str(e)[:2000]}")
    assert not failures, "\n\n".join(failures)
