"""Tables computed by a job in AWS Glue: the same rows, and no way in which a run may end that is not known."""

import json
from collections.abc import Callable, Iterator
from threading import Event, Thread

import dagster as dg
import pytest
from moto.glue.models import FakeJobRun, glue_backends
from psycopg.conninfo import conninfo_to_dict

from etl_assets.glue_job import make_declared_job
from etl_assets.graph.glue_runs import GlueRuns
from etl_assets.transforms import transform_of
from etl_resources.engines.glue_order import GlueAnswer, GlueOrder, from_json, to_json
from etl_resources.engines.spark_metrics import SparkMeasures
from etl_resources.errors import PermanentError, RestartError, TransientError
from etl_resources.manifest_runner import GlueSize
from etl_resources.manifest_sizes import SparkSize
from tests.integration.glue_service import ACCOUNT, REGION, GlueService, glue_service, keep_secret, store_of
from tests.invariants import prove_whole
from tests.lake import QUIET, Lake, instance

pytest_plugins = ["tests.lake"]
MONTH = "2024-05"
LARGE = {"ETL_SIZE": "large", "ETL_SPARK_MASTER": "glue"}
SECRETS = ("ETL_S3_SECRET_KEY", "ETL_S3_ACCESS_KEY")


@pytest.fixture(scope="module")
def glue(module_lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlueService]:
    """The service, with the secret and the job of the lake."""
    with glue_service(tmp_path_factory.mktemp("glue")) as service:
        service.store = store_of(module_lake.settings, module_lake.runtime.bucket)
        names = ("ETL_POSTGRES_DSN", "ETL_S3_ENDPOINT", *SECRETS)
        keep_secret(service, "pp-dw/settings", {n: module_lake.env[n] for n in names})
        module_lake.env |= service.variables
        with module_lake.environment():
            assert make_declared_job()[0] == "created"
        yield service


def in_step(lake: Lake, body: Callable[[GlueRuns], object]) -> None:
    """As a step has them: Pipes wants the context of one. Raises what the body raised."""
    raised: list[BaseException] = []

    @dg.asset
    def step(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        try:
            body(GlueRuns(lake.runtime, context, GlueSize(worker_type="G.1X", workers=2)))
        except BaseException as e:  # noqa: BLE001  (an interruption, too, is raised again outside)
            raised.append(e)
        return dg.MaterializeResult()

    with lake.environment():
        dg.materialize([step], instance=instance(), run_config=QUIET)
    for error in raised:
        raise error


def order(lake: Lake, runs: GlueRuns) -> GlueOrder:
    """One that nobody carries out."""
    node = lake.runtime.project.tables["silver.sales_orders"]
    folder = f"s3://{lake.runtime.bucket}/gold/any/data/partition={MONTH}/epoch=1-00"
    size = SparkSize(cores=1, memory_mb=512, shuffle_partitions=1)
    return GlueOrder(
        "any", transform_of(node, "{}"), {}, folder, {}, True, None, size, f"{runs.folder(folder)}/answer.json"
    )


def left(service: GlueService) -> list[str]:
    """Objects of orders that are still there."""
    assert service.store is not None
    found = service.store.client.list_objects_v2(Bucket=service.store.bucket).get("Contents", ())
    return [o["Key"] for o in found if "/glue-" in o["Key"]]


def test_the_job_is_made_what_it_is_declared(module_lake: Lake, glue: GlueService) -> None:
    """Once made nothing is to do; what somebody changed by hand is put right; a dry run changes nothing."""
    with module_lake.environment():
        done, job = make_declared_job()
        assert done == "unchanged"
        found = glue_backends[ACCOUNT][REGION].jobs[job["Name"]]
        assert (found.role, found.glue_version, found.timeout) == ("pp-dw-spark", "5.1", 30)
        found.glue_version = "4.0"
        assert make_declared_job(dry_run=True)[0] == "updated"
        assert found.glue_version == "4.0"
        assert make_declared_job()[0] == "updated"
        assert found.glue_version == "5.1"


def test_a_run_by_glue_publishes_what_the_embedded_engine_would(
    module_lake: Lake, glue: GlueService, java: object
) -> None:
    """Through the whole protocol; no secret is in an argument or an order, and nothing is left but the files."""
    orders: list[bytes] = []
    compute = glue.body

    def keep_order(service: GlueService, run: FakeJobRun) -> str:
        assert service.store is not None
        orders.extend(service.store.read(f"s3://{service.store.bucket}/{k}") for k in left(service) if "order" in k)
        return compute(service, run)

    glue.body = keep_order
    run = module_lake.materialize(MONTH, **LARGE)
    glue.body = compute
    assert run.success, (run.error, glue.logs)
    assert module_lake.published_kpi() == module_lake.oracle(MONTH)
    prove_whole(module_lake)
    told = module_lake.platform(
        "select i.asset, p.staged ->> 'engine', p.staged -> 'job_run' ->> 'job_run' from etl.intent_partitions p "
        "join etl.intents i using (attempt) where i.asset ~ '^(silver|gdp|kpi)'"
    )
    assert len(told) == len(glue.runs) == 4
    assert {engine.partition(" ")[0] for _, engine, _ in told} == {"pyspark"}
    assert {job_run for _, _, job_run in told} == {run.job_run_id for run in glue.runs}
    password = str(conninfo_to_dict(module_lake.platform_dsn)["password"])
    shown = glue.arguments() + "".join(map(bytes.decode, orders)) + "".join(glue.logs)
    assert orders
    assert not [s for s in (password, *(module_lake.env[n] for n in SECRETS)) if s in shown]
    assert left(glue) == []


def test_another_spark_master_recomputes_nothing(module_lake: Lake, glue: GlueService) -> None:
    """Who moves to Glue, or away from it, doesn't pay for all of his history."""
    run = module_lake.materialize(MONTH)
    assert run.success, run.error
    made = {a: found for a, found in run.statuses.items() if a.startswith(("silver", "gdp", "kpi"))}
    assert {s for found in made.values() for s in found.values()} == {"pruned"}


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        ("FAILED", RestartError, "Its log group"),
        ("ERROR", RestartError, "failed"),
        ("TIMEOUT", PermanentError, "larger size"),
        ("STOPPED", PermanentError, "was stopped"),
        ("EXPIRED", RestartError, "no workers"),
        ("SUCCEEDED", RestartError, "no answer"),
    ],
)
def test_a_run_that_gives_no_answer_is_told_by_its_state(
    module_lake: Lake, glue: GlueService, state: str, kind: type[Exception], words: str
) -> None:
    """Each state says whether another run may help; none is taken for a result."""
    glue.body = lambda _, run: state
    with pytest.raises(kind, match=words) as raised:
        in_step(module_lake, lambda runs: runs.carry_out(order(module_lake, runs), SparkMeasures()))
    assert type(raised.value) is kind
    assert left(glue) == []


def test_what_ended_the_job_is_raised_here(module_lake: Lake, glue: GlueService) -> None:
    """Not Glue's word for it, by which nobody can tell a wrong row from a lost worker."""

    def body(runs: GlueRuns) -> None:
        ordered = order(module_lake, runs)

        def answer(service: GlueService, run: FakeJobRun) -> str:
            assert service.store is not None
            service.store.write(ordered.answer, to_json(GlueAnswer.of_error("pyspark", PermanentError("a wrong row"))))
            return "FAILED"

        glue.body = answer
        runs.carry_out(ordered, SparkMeasures())

    with pytest.raises(PermanentError, match=r"^a wrong row$"):
        in_step(module_lake, body)


def test_a_step_that_ends_stops_its_run(module_lake: Lake, glue: GlueService) -> None:
    """It would cost, and be of no use."""
    from dagster._core.errors import DagsterExecutionInterruptedError

    started = Event()

    def run_on(service: GlueService, run: FakeJobRun) -> str:
        started.set()
        return "RUNNING"

    def body(runs: GlueRuns) -> None:
        def cancel() -> None:
            started.wait(60)
            with pytest.raises(KeyboardInterrupt), runs.stopped_with_step():
                raise KeyboardInterrupt

        Thread(target=cancel).start()
        runs.carry_out(order(module_lake, runs), SparkMeasures())

    glue.body = run_on
    with pytest.raises(DagsterExecutionInterruptedError):
        in_step(module_lake, body)
    assert glue.runs[-1].as_dict()["JobRunState"] == "STOPPED"


def test_a_missing_job_is_told_with_its_verb(module_lake: Lake, glue: GlueService) -> None:
    """And a service that is busy may be asked again."""
    jobs = glue_backends[ACCOUNT][REGION].jobs
    ((name, job),) = jobs.items()
    del jobs[name]
    with pytest.raises(PermanentError, match="data-pipeline glue-job"):
        in_step(module_lake, lambda runs: runs.carry_out(order(module_lake, runs), SparkMeasures()))
    jobs[name] = job
    job.execution_property["MaxConcurrentRuns"] = 0
    with pytest.raises(TransientError, match="busy"):
        in_step(module_lake, lambda runs: runs.carry_out(order(module_lake, runs), SparkMeasures()))


def test_an_answer_of_another_version_is_refused() -> None:
    """By name, with what to do."""
    with pytest.raises(PermanentError, match="different versions"):
        from_json(GlueAnswer, json.dumps({"result": 1}).encode())
