"""A project folder with its own embedded stack, driven through the command line as a user does."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from etl_resources.stack.processes import HOME_MARK, SERVER_MARK

ROOT = Path(__file__).parents[2]
BUCKET = "pp-dw-local"
SERVERS = ("postgres", "s3", "elasticsearch", "rates", "dagster-webserver", "dagster-daemon")
CLI = [sys.executable, "-c", "from etl_assets.cli.main import main; main()"]
KILLED_UP = """
import os, signal, sys
from pathlib import Path
from etl_resources import stack
from etl_resources.settings import load_settings

def progress(line):
    if line.startswith(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

stack.up(load_settings(), bucket=sys.argv[2], project_dir=Path.cwd(), ui=False, search=False, progress=progress)
"""
DEFINITIONS = "import dagster as dg\ndefs = dg.Definitions(assets=[dg.AssetSpec('one')])\n"
WORKSPACE = "load_from: [{python_file: {relative_path: definitions.py, location_name: test}}]\n"


@dataclass(frozen=True)
class Project:
    """Commands and state of one folder."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / ".etl"

    @property
    def state(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.home / "stack.json").read_text())
        return content

    def environment(self, **extra: str) -> dict[str, str]:
        outside = {k: v for k, v in os.environ.items() if not k.startswith(("ETL_", "ERP_", "RATES_"))}
        return {**outside, "PYTHONPATH": str(ROOT), "ETL_HOME": str(self.home), **extra}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The command to its end, whatever its exit code."""
        return subprocess.run(
            [*CLI, *arguments],
            cwd=self.folder,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """The command in the background."""
        return subprocess.Popen(
            [*CLI, *arguments], cwd=self.folder, env=self.environment(), stderr=subprocess.PIPE, text=True
        )

    def up(self, *arguments: str, **environment: str) -> dict[str, Any]:
        """`up --json`, which has to succeed."""
        options = arguments or ("--no-ui", "--no-search")
        result = self.run("up", "--json", *options, **environment)
        assert result.returncode == 0, result.stderr
        content: dict[str, Any] = json.loads(result.stdout)
        return content

    def up_killed_at(self, line: str) -> None:
        """`up` that is killed with -9 the moment it says the line."""
        command = [sys.executable, "-c", KILLED_UP, line, BUCKET]
        result = subprocess.run(
            command, cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=120, check=False
        )
        assert result.returncode == -9, f"never said {line!r}: {result.stderr}"

    def remove(self) -> None:
        """Kill what runs and delete the data: `down` has its own tests."""
        for server in SERVERS:
            for process in processes(self.home, server):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        remove_home(self.home)


def remove_home(home: Path) -> None:
    """Delete a stopped home with its data, which may be in a system folder when the tests run as root."""
    for server in ("postgres", "elasticsearch"):
        shutil.rmtree((home / server).resolve(), ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)


def processes(home: Path, server: str) -> list[psutil.Process]:
    """Live processes of a server of that home, children included, found independently of the product's records."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            alive = process.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
        if alive and environment.get(HOME_MARK) == str(home) and environment.get(SERVER_MARK) == server:
            found.append(process)
    return found


def pids(project: Project) -> dict[str, int]:
    """Of the servers that run, children left out."""
    found = {}
    for name in project.state["servers"]:
        members = processes(project.home, name)
        own = {p.pid for p in members}
        parents = [p.pid for p in members if p.ppid() not in own]
        assert len(parents) <= 1, f"{len(parents)} {name} servers run"
        if parents:
            found[name] = parents[0]
    return found


def kill(*victims: int) -> None:
    """As the out-of-memory killer does."""
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


def write_row(status: dict[str, Any], text: str) -> None:
    """One row as the ERP's owner."""
    with psycopg.connect(status["erp_admin_dsn"]) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS erp")
        connection.execute("CREATE TABLE IF NOT EXISTS erp.notes (text text PRIMARY KEY)")
        connection.execute("INSERT INTO erp.notes VALUES (%s)", [text])


def rows(status: dict[str, Any]) -> set[str]:
    """All rows, read as sources read them."""
    with psycopg.connect(status["erp_dsn"]) as connection:
        return {text for (text,) in connection.execute("SELECT text FROM erp.notes")}


def bucket_of(status: dict[str, Any]) -> Any:
    """The bucket, with the credentials that status gives."""
    import boto3

    return boto3.resource(
        "s3",
        endpoint_url=status["s3_endpoint"],
        aws_access_key_id=status["s3_access_key"],
        aws_secret_access_key=status["s3_secret_key"],
        region_name=status["s3_region"],
    ).Bucket(status["bucket"])


def write_object(status: dict[str, Any], key: str) -> None:
    """One object that holds its own key."""
    bucket_of(status).put_object(Key=key, Body=key.encode())


def objects(status: dict[str, Any]) -> dict[str, str]:
    """All objects with their content."""
    return {o.key: o.get()["Body"].read().decode() for o in bucket_of(status).objects.all()}
