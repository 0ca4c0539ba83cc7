"""What a job in AWS Glue is told to compute, and what it answers: two JSON objects in the attempt's folder.

Neither holds a secret: the job has settings of its own. What is written here is what run_on_spark takes and gives.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from etl_resources.engines.spark_inputs import SparkRelation
from etl_resources.engines.spark_metrics import SparkMeasures
from etl_resources.engines.transform import Transform, TransformResult
from etl_resources.errors import DataPipelineError, PermanentError, RestartError, TransientError
from etl_resources.manifest_sizes import SparkSize

T = TypeVar("T")

ORDER = "order"
"""Extra of the Pipes context: path of the order."""
SETTINGS_ARGUMENT = "--settings-secret"


@dataclass(frozen=True)
class GlueOrder:
    """One partition to compute. Paths are s3://…"""

    what: str
    """How people call it: asset and partition."""
    transform: Transform
    inputs: Mapping[str, SparkRelation]
    folder: str
    """Of the attempt: files are written there, and nowhere else."""
    field_ids: Mapping[str, int]
    one_file: bool
    parts: int | None
    """As SparkOutput's."""
    size: SparkSize
    answer: str
    """Where the answer is written, once."""


@dataclass(frozen=True)
class GlueAnswer:
    """What became of an order: a result, or the error that ended it."""

    engine: str
    """As in evidence, e.g. "pyspark 4.1.4"."""
    result: TransformResult | None = None
    """Its paths are empty where no row is good."""
    rejected_paths: tuple[str, ...] = ()
    kind: Literal["transient", "restart", "permanent"] | None = None
    message: str = ""
    measures: SparkMeasures = field(default_factory=SparkMeasures)
    """What Spark did, also for nothing."""

    @classmethod
    def of_error(cls, engine: str, error: DataPipelineError, measures: SparkMeasures | None = None) -> "GlueAnswer":
        """An error that the other side raises again."""
        kind: Literal["transient", "restart", "permanent"] = (
            "restart" if isinstance(error, RestartError) else
            "transient" if isinstance(error, TransientError) else "permanent"
        )  # fmt: skip
        return cls(engine, kind=kind, message=str(error), measures=measures or SparkMeasures())

    @property
    def error(self) -> DataPipelineError | None:
        """None where there is a result."""
        if self.kind is None:
            return None
        return {"transient": TransientError, "restart": RestartError, "permanent": PermanentError}[self.kind](
            self.message
        )


def to_json(value: GlueOrder | GlueAnswer) -> bytes:
    """As `from_json` reads it; decimals are texts, so that none is rounded."""
    from pydantic import TypeAdapter

    return TypeAdapter(type(value)).dump_json(value)


def from_json(kind: type[T], text: bytes) -> T:
    """An order or an answer, equal to what was written. Raises PermanentError for anything else."""
    from pydantic import TypeAdapter, ValidationError

    try:
        found: T = TypeAdapter(kind).validate_json(text)
    except ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        raise PermanentError(
            f"A {kind.__name__} can't be read: {first['msg']} at {'.'.join(map(str, first['loc']))}. The job and the "
            "platform are of different versions: run `data-pipeline glue-job`, then run again."
        ) from None
    return found
