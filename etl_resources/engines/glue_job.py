"""The job in AWS Glue: what it is made of, and the code that each of its runs brings along.

The job itself says little: role, version, limits. Its code goes with every run, as an archive that bears the hash of
its content, and so do the versions of the packages: a run computes with exactly the platform that ordered it.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from etl_resources.conventions import glue_code_folder
from etl_resources.engines.glue_order import SETTINGS_ARGUMENT
from etl_resources.manifest_glue import Glue
from etl_resources.manifest_runner import GlueSize
from etl_resources.object_store import ObjectStore
from etl_resources.python_source import BatchFunction

PACKAGES = (
    *("annotated-types", "boto3", "dagster-pipes", "psycopg", "psycopg-binary", "pyarrow", "pydantic"),
    *("pydantic-core", "pydantic-settings", "python-dotenv", "pyyaml", "sqlglot", "typing-extensions"),
    "typing-inspection",
)
"""What the entry imports beside Glue's own Spark and pandas; a test compares."""
SCRIPT = "from etl_resources.engines.glue_entry import main\n\nmain()\n"
_SCRIPT_NAME, _ZIP_DATE = "script.py", (1980, 1, 1, 0, 0, 0)
Made = Literal["created", "updated", "unchanged"]


def definition(glue: Glue, name: str, bucket: str) -> dict[str, Any]:
    """Arguments of CreateJob. The size of a run is said when it starts."""
    arguments = {
        SETTINGS_ARGUMENT: glue.settings_secret,
        "--datalake-formats": "iceberg",
        "--enable-metrics": "true",
        "--enable-observability-metrics": "true",
        "--enable-continuous-cloudwatch-log": "true",
        "--job-language": "python",
    }
    return {
        "Name": name,
        "Description": "Computes tables of the data pipeline; what it writes is published by who started it.",
        "Role": glue.role,
        "Command": {
            "Name": "glueetl",
            "PythonVersion": "3",
            "ScriptLocation": f"{glue_code_folder(bucket)}/{_SCRIPT_NAME}",
        },
        "DefaultArguments": arguments,
        "ExecutionProperty": {"MaxConcurrentRuns": glue.runs_max},
        "JobRunQueuingEnabled": True,  # a run that finds no room waits, where it would be refused
        "GlueVersion": glue.version,
        "WorkerType": "G.1X",
        "NumberOfWorkers": 2,
        "Timeout": glue.timeout_minutes,
        "MaxRetries": 0,  # a second run of one order is for who gave it to decide
        "Tags": dict(glue.tags),
        **({"Connections": {"Connections": [*glue.connections]}} if glue.connections else {}),
    }


def make_job(client: Any, wanted: Mapping[str, Any], store: ObjectStore, *, dry_run: bool = False) -> Made:
    """Create the job and its script, or make them what they should be; tags are those of the creation.

    client: boto3's of Glue.
    """
    from botocore.exceptions import ClientError

    try:
        found = client.get_job(JobName=wanted["Name"])["Job"]
    except ClientError as e:
        if e.response["Error"]["Code"] != "EntityNotFoundException":
            raise
        found = None
    changed = {k: v for k, v in wanted.items() if k not in ("Name", "Tags")}
    if found is not None and all(found.get(k) == v for k, v in changed.items()):
        return "unchanged"
    if not dry_run:
        store.write(wanted["Command"]["ScriptLocation"], SCRIPT.encode())
        if found is None:
            client.create_job(**wanted)
        else:
            client.update_job(JobName=wanted["Name"], JobUpdate=changed)
    return "created" if found is None else "updated"


def run_arguments(
    name: str, glue: Glue, size: GlueSize, code: str, function: BatchFunction | None = None
) -> dict[str, Any]:
    """Arguments of StartJobRun, without those of Pipes. code: path of the archive; function: brings its packages."""
    packages = {p: version(p) for p in PACKAGES} | dict(function.packages if function is not None else {})
    return {
        "JobName": name,
        "WorkerType": size.worker_type,
        "NumberOfWorkers": size.workers,
        "Timeout": glue.timeout_minutes,
        "Arguments": {
            "--extra-py-files": code,
            "--additional-python-modules": ",".join(f"{p}=={of}" for p, of in packages.items()),
        },
    }


def publish_code(store: ObjectStore) -> str:
    """Path of an archive of this very code; written where it isn't there yet."""
    from botocore.exceptions import ClientError

    content = code_archive()
    path = f"{glue_code_folder(store.bucket)}/code-{hashlib.sha256(content).hexdigest()[:16]}.zip"
    try:
        if store.read(path) == content:
            return path
    except ClientError as e:
        if e.response["Error"]["Code"] != "NoSuchKey":
            raise
    store.write(path, content)
    return path


def code_archive() -> bytes:
    """The package etl_resources as a zip, the same bytes for the same code."""
    package = Path(__file__).parents[1]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in package.rglob("*") if p.suffix in (".py", ".sql", ".typed")):
            name = f"{package.name}/{file.relative_to(package).as_posix()}"
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
