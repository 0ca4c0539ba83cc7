"""kill -9 while a KPI is held or accepted: it is published once, in the name of who accepted it, or it still waits."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from etl_resources import failpoints
from tests.fault.driver import become
from tests.refused_kpi import MONTH, RefusedKpi, refused_kpi, run_asset

pytestmark = [pytest.mark.timeout(300)]


def accept_in_a_process(points: list[Mapping[str, Any]], environment: Mapping[str, str], stem: Path) -> None:
    """What `accept` does, in a process that ends at a failpoint."""
    become({**environment, failpoints.SETTING: json.dumps(points)}, stem.with_suffix(".log"))
    from etl_assets.graph.runtime import Runtime
    from etl_assets.kpi_acceptance import accept
    from etl_assets.project import load_project

    accept(Runtime(load_project()), "revenue", MONTH, "ana", "known", run_asset)


@pytest.fixture(scope="module")
def kpi(stack: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RefusedKpi]:
    with refused_kpi(tmp_path_factory.mktemp("kpi")) as made:
        yield made


@pytest.mark.parametrize(
    "point", ["acceptance.recorded", "audit.passed", "stage.committed", "publish.committed", "evidence.recording"]
)
def test_an_acceptance_that_dies_is_gone_on_with(kpi: RefusedKpi, point: str) -> None:
    """Whoever died after it was written down: the next run publishes what was accepted, once."""
    kpi.sell(f"{len(kpi.publishes())}.50", line=5)
    assert not kpi.run().success
    (held,) = kpi.waiting()
    before = len(kpi.publishes())

    child = kpi.lake.fork(accept_in_a_process, [{"point": point, "action": "kill"}])
    assert child.wait() is None, child.log

    run = kpi.run()
    assert run.success, run.error
    assert kpi.waiting() == []
    assert len(kpi.publishes()) == before + 1
    ((token, accepted),) = kpi.lake.platform(
        "select p.token, staged -> 'accepted' ->> 'accepted_by' from etl.current_versions c "
        "join etl.intent_partitions p using (attempt, partition) where asset = 'kpi.revenue'"
    )
    assert (token, accepted) == (held.token, "ana")
    kpi.prove_right()


def test_a_run_that_dies_when_it_held_a_kpi_leaves_it_waiting(kpi: RefusedKpi) -> None:
    """Nothing is published of it, and a person can accept it."""
    kpi.sell(f"{len(kpi.publishes())}.75", line=6)
    before = kpi.publishes()

    child = kpi.lake.spawn(MONTH, points=[{"point": "acceptance.held", "match": "revenue", "action": "kill"}])
    assert child.wait() is None, child.log

    assert kpi.publishes() == before
    assert len(kpi.waiting()) == 1
    assert kpi.accept().published
    kpi.prove_right()
