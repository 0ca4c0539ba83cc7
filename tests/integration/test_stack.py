"""The embedded stack survives kills, interruptions, strangers on its ports and lost state, and stops only itself."""

import os
import secrets
import socket
import stat
import subprocess
import time
import urllib.request
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.integration.stack_project import (
    Project,
    kill,
    objects,
    pids,
    processes,
    rows,
    write_object,
    write_row,
)

SERVICES = ("postgres", "s3")


def test_up_is_repeatable_and_two_at_once_start_one_stack(project: Project) -> None:
    """Two shells, or a script beside a person: the lock makes one wait, the second finds what the first started."""
    both = [project.start("up", "--no-ui", "--no-search") for _ in range(2)]
    errors = [process.communicate(timeout=180)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    first = pids(project)
    assert set(first) == set(SERVICES)
    status = project.up()
    assert pids(project) == first
    assert all(server["healthy"] for server in status["servers"])


def test_secrets_are_random_private_and_needed(started: Project) -> None:
    """A default password, an open port or a readable file would hand the data to anybody on the machine."""
    status = started.up()
    assert {stat.S_IMODE((started.home / name).stat().st_mode) for name in ("stack.json", "hash-key")} == {0o600}
    passwords = [s for server in started.state["servers"].values() for s in server["secrets"].values()]
    passwords.append(started.state["secrets"]["HASH_KEY"])
    assert len(set(passwords)) == len(passwords)
    assert min(len(p) for p in passwords) >= 20
    with pytest.raises(psycopg.OperationalError, match="no password"):
        psycopg.connect(status["postgres_dsn"].replace(started.state["servers"]["postgres"]["secrets"]["etl"], ""))
    for name, pid in pids(started).items():
        listening = [c for c in psutil.Process(pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert listening
        assert {c.laddr.ip for c in listening} == {"127.0.0.1"}, name
    shown = started.run("status")
    assert not [p for p in passwords if p in shown.stdout + shown.stderr]


def test_the_reader_of_the_erp_reads_everything_and_writes_nothing(started: Project) -> None:
    """Sources run as this role: it sees tables of a schema that was dropped and made again, and other sessions."""
    status = started.up()
    with psycopg.connect(status["erp_admin_dsn"]) as owner:
        owner.execute("DROP SCHEMA IF EXISTS erp CASCADE")
    write_row(status, "hello")
    with psycopg.connect(status["erp_dsn"]) as reader:
        assert reader.execute("SELECT text FROM erp.notes").fetchall() == [("hello",)]
        assert reader.execute("SELECT pg_has_role('pg_read_all_stats', 'member')").fetchone() == (True,)
        assert reader.execute("SHOW fsync").fetchone() == ("on",)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute("INSERT INTO erp.notes VALUES ('mine')")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(status["erp_dsn"].removesuffix("erp") + "platform")


@pytest.mark.parametrize("victims", [("postgres",), ("postgres", "s3")], ids="+".join)
def test_data_survives_a_killed_server(started: Project, victims: tuple[str, ...]) -> None:
    """kill -9 is what the out-of-memory killer does; the next `up` repairs it and starts each server once."""
    mark = secrets.token_hex(4)
    before = started.up()
    write_row(before, mark)
    write_object(before, mark)
    running = pids(started)
    kill(*(running[name] for name in victims))
    assert started.run("status").returncode == 1
    after = started.up()
    assert mark in rows(after)
    assert objects(after)[mark] == mark
    changed = {name for name, pid in pids(started).items() if pid != running[name]}
    assert changed == set(victims)
    assert after["postgres_dsn"] == before["postgres_dsn"]
    assert started.run("status").returncode == 0


@pytest.mark.parametrize(
    "line", ["s3: preparing", "s3: started", "postgres: preparing", "postgres: started", "postgres: ready"]
)
def test_an_up_that_is_killed_is_finished_by_the_next(project: Project, line: str) -> None:
    """Also between the start of a server and the record of its pid: no second server, no lost password."""
    project.up_killed_at(line)
    left = pids(project)
    status = project.up()
    assert set(pids(project)) == set(SERVICES)
    assert left.items() <= pids(project).items(), "a usable server was restarted"
    write_row(status, line)
    write_object(status, "key")
    assert rows(status) == {line}


def test_an_up_that_is_killed_in_initdb_is_finished_by_the_next(project: Project) -> None:
    """The orphaned initdb goes on writing: it must neither be taken for a database nor disturb the new one."""
    process = project.start("up", "--no-ui", "--no-search")
    building = project.home / "postgres" / "data.building"
    deadline = time.monotonic() + 60
    while not (building / "global").exists() and time.monotonic() < deadline:
        pass
    process.kill()
    process.communicate()
    assert not (project.home / "postgres" / "data").exists()
    write_row(project.up(), "complete")


def test_down_stops_its_own_servers_only(started: Project, project: Project) -> None:
    """A second project, and a copied stack.json that names the first one's processes, leave the first alone."""
    started.up()
    others = pids(started)
    mine = project.up()
    write_row(mine, "stays")
    assert project.run("down").returncode == 0
    assert not any(processes(project.home, name) for name in SERVICES)
    assert project.run("down").returncode == 0
    assert rows(project.up()) == {"stays"}
    project.run("down")
    (project.home / "stack.json").write_text((started.home / "stack.json").read_text())
    assert project.run("down").returncode == 0
    assert pids(started) == others


def test_a_stranger_on_a_remembered_port_is_avoided(started: Project) -> None:
    """The port was free when we chose it and belongs to another program now."""
    before = started.up()
    write_row(before, mark := secrets.token_hex(4))
    port = started.state["servers"]["postgres"]["ports"]["sql"]
    started.run("down")
    with socket.create_server(("127.0.0.1", port)):
        after = started.up()
        assert started.state["servers"]["postgres"]["ports"]["sql"] != port
        assert str(port) not in started.state["settings"]["postgres_dsn"]
        assert mark in rows(after)


def test_a_lost_state_file_costs_the_passwords_only(started: Project) -> None:
    """Whoever deletes stack.json gets new passwords for the old data, and no second pair of servers."""
    before = started.up()
    write_row(before, mark := secrets.token_hex(4))
    write_object(before, mark)
    key = started.state["secrets"]["HASH_KEY"]
    (started.home / "stack.json").unlink()
    after = started.up()
    assert started.state["secrets"]["HASH_KEY"] == key, "what was hashed is found by it"
    assert after["postgres_dsn"] != before["postgres_dsn"]
    assert mark in rows(after)
    assert objects(after)[mark] == mark
    assert set(pids(started)) == set(SERVICES)


def external(status: dict[str, str]) -> dict[str, str]:
    """The environment that points at somebody's servers."""
    return {
        "ETL_POSTGRES_DSN": status["postgres_dsn"],
        "ERP_DSN": status["erp_dsn"],
        "ETL_S3_ENDPOINT": status["s3_endpoint"],
        "ETL_S3_ACCESS_KEY": status["s3_access_key"],
        "ETL_S3_SECRET_KEY": status["s3_secret_key"],
    }


def test_external_servers_are_used_and_nothing_is_started(started: Project, project: Project) -> None:
    """Production databases come through the environment; an embedded twin beside them would split the data."""
    theirs = external(started.up())
    before = pids(started)
    status = project.up(**theirs)
    assert {(s["name"], s["kind"], s["healthy"]) for s in status["servers"]} == {
        (name, "external", True) for name in ("postgres", "erp", "s3")
    }
    assert not any(processes(project.home, name) for name in SERVICES)
    assert project.run("status", **theirs).returncode == 0
    assert project.run("down", **theirs).returncode == 0
    assert pids(started) == before


def test_only_the_missing_half_is_embedded(started: Project, project: Project) -> None:
    """With an ERP of one's own, the platform's database is still embedded, and the other way round for S3."""
    theirs = external(started.up())
    status = project.up(ERP_DSN=theirs["ERP_DSN"])
    assert status["erp_dsn"] == theirs["ERP_DSN"]
    assert status["erp_admin_dsn"] is None
    assert status["postgres_dsn"] == project.state["settings"]["postgres_dsn"]
    assert set(project.state["secrets"]) == {"CRM_S3_URL", "HASH_KEY"}  # of the embedded S3, not of an ERP
    assert set(pids(project)) == set(SERVICES)


@pytest.mark.parametrize(
    ("change", "names", "exit_code"),
    [
        ({"ETL_POSTGRES_DSN": "postgresql://etl:sesame@127.0.0.1:{sql}/platform"}, "ETL_POSTGRES_DSN|etl", 1),
        ({"ERP_DSN": "postgresql://etl:sesame@127.0.0.1:1/erp"}, "ERP_DSN|127.0.0.1:1", 75),
        ({"ETL_S3_SECRET_KEY": "sesame"}, "ETL_S3_ENDPOINT|{s3}", 1),
        ({"ETL_S3_ENDPOINT": "http://127.0.0.1:1"}, "ETL_S3_ENDPOINT|http://127.0.0.1:1", 75),
        ({"ETL_S3_BUCKET": "not-there"}, "not-there|ETL_S3_BUCKET", 1),
        ({"ETL_S3_ACCESS_KEY": ""}, "ETL_S3_ACCESS_KEY|ETL_S3_ENDPOINT", 1),
    ],
    ids=["wrong password", "refused", "wrong key", "refused S3", "no bucket", "half of the S3 settings"],
)
def test_an_unusable_external_server_is_one_clear_line(
    started: Project, tmp_path: Path, change: dict[str, str], names: str, exit_code: int
) -> None:
    """It names the setting, the host and the port, never the password, and starts nothing instead."""
    state = started.state["servers"]
    ports = {"sql": state["postgres"]["ports"]["sql"], "s3": state["s3"]["ports"]["s3"]}
    settings = {**external(started.up()), **{k: v.format(**ports) for k, v in change.items()}}
    result = Project(tmp_path).run("up", "--no-ui", "--no-search", **{k: v for k, v in settings.items() if v})
    assert result.returncode == exit_code, result.stderr
    line = result.stderr.strip()
    assert line.count("\n") == 0
    assert all(name.format(**ports) in line for name in names.split("|")), line
    assert "sesame" not in line
    assert not (tmp_path / ".etl" / "postgres").exists()


def test_without_java_spark_is_one_line_and_the_rest_runs(started: Project) -> None:
    """It is asked for on a laptop that hasn't Java yet: what else was asked for must not suffer."""
    told = started.run("up", "--no-ui", "--no-search", "--spark", "2", JAVA_HOME="/nowhere")
    assert told.returncode == 0, told.stderr
    (line,) = [line for line in told.stdout.splitlines() if line.startswith("spark ")]
    assert line.startswith("spark is not started: Spark needs Java, and there is none in /nowhere. Install Java 17")
    assert set(pids(started)) == set(SERVICES)
    assert started.run("up", "--no-ui", "--no-search", "--spark", "0").returncode == 0
    assert started.state.get("spark") is None
    assert "spark_master" not in started.state["settings"]
    half = started.run("up", "--spark-memory-mb", "2048")
    assert half.returncode == 2
    assert "--spark" in half.stderr


def test_the_web_server_comes_back_and_down_takes_its_children_along(started: Project) -> None:
    """Its code servers outlive a killed web server for a while: they are no web server, and must not stay."""
    status = started.up("--ui", "--no-search")
    before = pids(started)
    assert set(before) == {*SERVICES, "dagster-webserver", "dagster-daemon"}
    kill(before["dagster-webserver"])
    status = started.up("--ui", "--no-search")
    after = pids(started)
    assert {n for n in after if after[n] != before[n]} == {"dagster-webserver"}
    with urllib.request.urlopen(f"{status['ui_url']}/server_info", timeout=10) as answer:  # noqa: S310  (http)
        assert answer.status == 200
    with psycopg.connect(status["postgres_dsn"]) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM daemon_heartbeats").fetchone() == (True,)
    assert started.run("down").returncode == 0
    assert not any(processes(started.home, name) for name in after)


def test_a_wrong_folder_gets_no_stack(tmp_path: Path) -> None:
    """A stack in the home directory, by a forgotten cd, would be a second, empty one."""
    result = Project(tmp_path).run("up")
    assert result.returncode == 1
    assert result.stderr == f"error: {tmp_path} has no dagster.yaml. Run from the project's folder, or use --no-ui.\n"
    demo = Project(tmp_path).run("demo", "--no-ui")
    assert demo.returncode == 1
    assert demo.stderr == f"error: {tmp_path} has no dagster.yaml. Run from the project's folder.\n"
    assert not (tmp_path / ".etl").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_ordinary_user_needs_no_other_account(tmp_path: Path) -> None:
    """Most people aren't root: everything then runs as themselves, and data stays in the project."""
    home = Path("/tmp") / f"etl-{secrets.token_hex(4)}"  # noqa: S108  (pytest's folders are closed to others)
    home.mkdir()
    os.chown(home, 65534, 65534)
    script = """
import os, sys
from pathlib import Path
from etl_resources import stack
from etl_resources.settings import load_settings
from etl_resources.stack import s3_probe, postgres
import psycopg, encodings.idna, pwd, multiprocessing.util
s3_probe.client("http://127.0.0.1:1", "a", "b")  # the interpreter's own folder may be closed to nobody
os.setgroups([]); os.setgid(65534); os.setuid(65534)
stack.up(load_settings(), bucket="pp-dw-local", project_dir=Path.cwd(), ui=False, search=False)
print({p.stat().st_uid for p in Path(sys.argv[1]).iterdir()})
stack.down(load_settings())
"""
    project = Project(home)
    try:
        result = subprocess.run(
            [*project_python(), script, str(project.home)],
            cwd=home,
            env=project.environment(HOME=str(home)),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.strip() == "{65534}"
    finally:
        project.remove()
        home.rmdir()


def project_python() -> list[str]:
    import sys

    return [sys.executable, "-c"]
