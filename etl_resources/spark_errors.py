"""What is transient or permanent, for errors of Spark: told by its SQLSTATE, and by the words of what it met."""

import re

from etl_resources.engines.function_modules import FunctionError
from etl_resources.errors import DataPipelineError, PermanentError, RestartError, TransientError

_STATE = re.compile(r"SQLSTATE: (\w{5})")
_FUNCTION = re.compile(r"\.function_modules\.FunctionError: (.+)")
"""What a batch function met in an executor's Python."""
_OF_THE_SQL = ("0A", "21", "22", "42", "P0", "KD")
"""Classes of SQLSTATE that say: the statement or a value is wrong, and will be again."""
_LOST = (
    *("Py4JNetworkError", "ConnectionRefusedError", "ConnectionResetError", "Answer from Java side is empty"),
    *("SparkContext was shut down", "stopped SparkContext"),
)
_MEMORY = ("OutOfMemoryError", "UNABLE_TO_ACQUIRE_MEMORY", "MemoryError")
_UNEQUAL = ("ModuleNotFoundError", "Cannot run program", "PYTHON_VERSION_MISMATCH")
_MISSING = ("NotFoundException", "Cannot find snapshot", "Location does not exist", "FileNotFoundException")


def spark_error(error: BaseException, what: str) -> DataPipelineError | None:
    """Spark's error as one of ours, beginning with what was being done; None for another's.

    What Spark gave up after its own tries (lost executors, a store that doesn't answer) is transient.
    """
    if isinstance(error, DataPipelineError):
        return error
    library = type(error).__module__.partition(".")[0]
    text = f"{type(error).__name__}: {error}"
    if library in ("pyspark", "py4j") and (
        function := _FUNCTION.search(text)
    ):  # whose own words may be any of those below
        return FunctionError(function[1])
    if library in ("pyspark", "py4j", "builtins") and any(mark in text for mark in _LOST):
        return RestartError(f"{what}: Spark ended while it was at work. Its log tells why, if memory was short.")
    if library not in ("pyspark", "py4j"):
        return None
    told = _told(text)
    if any(mark in text for mark in _MEMORY):
        return PermanentError(f"{what}: Spark ran out of memory: {told}. Choose a larger size.")
    if any(mark in text for mark in _UNEQUAL):
        return PermanentError(
            f"{what}: an executor can't run this package: {told}. Install it there, with the same Python, at the same "
            "path or at `spark: python:` of platform.yaml."
        )
    if any(mark in text for mark in _MISSING):
        return PermanentError(f"{what}: {told}. `data-pipeline verify` tells what is missing.")
    state = _STATE.search(text)
    if state is not None and state[1].startswith(_OF_THE_SQL):
        return PermanentError(f"{what}: {told}")
    return TransientError(f"{what}: Spark: {told}")


def _told(text: str) -> str:
    """The line that says it: of a Java error with a trace, the cause of what a task met."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [line for line in lines if _STATE.search(line) or "Exception: " in line or "Error: " in line]
    shown = (causes or lines or [text])[0]
    return re.sub(r"^[\w.$ ]*(?:Exception|Error): ", "", shown)[:600]
