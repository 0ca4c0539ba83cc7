"""The embedded Elasticsearch: guarded, bounded, restart-safe, replaceable, and no condition for the rest."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from etl_resources.errors import SettingsError
from etl_resources.settings import Settings, load_settings
from etl_resources.sinks.elasticsearch_client import connect
from etl_resources.stack.elasticsearch import ADMIN, HEAP_MB, check_health, client_settings
from etl_resources.stack.state import load
from tests.integration.conftest import new_project
from tests.integration.stack_project import Project, kill, pids, processes

if TYPE_CHECKING:
    from etl_resources.stack import StackStatus
    from etl_resources.stack.elasticsearch_files import Java

WITH_SEARCH = ("--no-ui", "--search")


@pytest.fixture(scope="module")
def searching(java: "Java", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose stack runs with Elasticsearch; tests may kill it, and bring it up again."""
    project = new_project(tmp_path_factory.mktemp("searching"))
    project.up(*WITH_SEARCH)
    yield project
    project.remove()


def settings_of(status: dict[str, Any], **changed: Any) -> Settings:
    given = {name: status[name] for name in ("elasticsearch_url", "elasticsearch_username", "elasticsearch_password")}
    return load_settings(**{**given, **changed})


def write(status: dict[str, Any], text: str) -> None:
    with connect(settings_of(status)) as search:
        search.index(index="notes", id=text, document={"text": text}, refresh=True)


def notes(status: dict[str, Any]) -> set[str]:
    with connect(settings_of(status)) as search:
        return {hit["_id"] for hit in search.search(index="notes", size=100)["hits"]["hits"]}


def test_it_is_for_this_machine_and_those_who_know_the_password(searching: Project) -> None:
    """What listens on all interfaces, or lets anybody in, hands the data out."""
    status = searching.up(*WITH_SEARCH)
    for pid in (p.pid for p in processes(searching.home, "elasticsearch")):
        listening = [c for c in psutil.Process(pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert {c.laddr.ip.removeprefix("::ffff:") for c in listening} <= {"127.0.0.1"}
    for changed in (
        {"elasticsearch_password": "wrong"},
        {"elasticsearch_username": "elastic", "elasticsearch_password": "changeme"},
    ):
        with pytest.raises(SettingsError, match=r"HTTP 401.*ETL_ELASTICSEARCH_URL"):
            check_health(settings_of(status, **changed))
    with pytest.raises(SettingsError, match="HTTP 401"):
        check_health(Settings.model_construct(elasticsearch_url=status["elasticsearch_url"]))
    shown = searching.run("status")
    assert shown.returncode == 0
    assert "elasticsearch" in shown.stdout
    assert status["elasticsearch_password"] not in shown.stdout + shown.stderr


def test_its_memory_is_bounded_and_its_files_are_in_the_home(searching: Project) -> None:
    """It shares a laptop with everything else, and `rm -r .etl` removes it."""
    status = searching.up(*WITH_SEARCH)
    record = load(searching.home).servers["elasticsearch"]
    with connect(client_settings(record, ADMIN)) as admin:
        (node,) = admin.nodes.info(metric="jvm,settings")["nodes"].values()
    assert node["jvm"]["mem"]["heap_max_in_bytes"] <= HEAP_MB * 1024**2
    data = Path(node["settings"]["path"]["data"])
    assert data == (searching.home / "elasticsearch").resolve() / "data"
    server = next(s for s in status["servers"] if s["name"] == "elasticsearch")
    assert "started" in Path(server["log"]).read_text()


@pytest.mark.parametrize(
    "whole", [True, pytest.param(False, marks=pytest.mark.long)], ids=["launcher and server", "launcher only"]
)
def test_documents_survive_a_killed_server(searching: Project, whole: bool) -> None:
    """kill -9, also of the launcher alone, whose server then ends by itself while the next `up` is under way."""
    before = searching.up(*WITH_SEARCH)
    write(before, mark := f"killed-{whole}")
    others = {name: pid for name, pid in pids(searching).items() if name != "elasticsearch"}
    launcher = pids(searching)["elasticsearch"]
    kill(*([p.pid for p in processes(searching.home, "elasticsearch")] if whole else [launcher]))
    after = searching.up(*WITH_SEARCH)
    assert mark in notes(after)
    assert pids(searching).items() >= others.items()
    assert after["elasticsearch_url"] == before["elasticsearch_url"]


def test_down_stops_it_and_up_without_it_forgets_it(searching: Project) -> None:
    """Who wants it no more sees no server that is down; its data waits."""
    write(searching.up(*WITH_SEARCH), "waits")
    assert searching.run("down").returncode == 0
    assert not processes(searching.home, "elasticsearch")
    status = searching.up("--no-ui", "--no-search")
    assert "elasticsearch" not in {s["name"] for s in status["servers"]}
    assert searching.run("status").returncode == 0
    assert "waits" in notes(searching.up(*WITH_SEARCH))


def test_another_elasticsearch_is_used_and_left_alone(search: "StackStatus", project: Project) -> None:
    """A cluster of one's own comes through the environment; ours isn't even installed beside it."""
    theirs = {
        f"ETL_ELASTICSEARCH_{name}": str(getattr(search, f"elasticsearch_{name.lower()}"))
        for name in ("URL", "USERNAME", "PASSWORD")
    }
    status = project.up(*WITH_SEARCH, **theirs)
    found = next(s for s in status["servers"] if s["name"] == "elasticsearch")
    assert (found["kind"], found["healthy"]) == ("external", True)
    assert not processes(project.home, "elasticsearch")
    assert not any(name.startswith("elasticsearch") for name in project.state["settings"])
    assert project.run("down", **theirs).returncode == 0
    check_health(load_settings())
    refused = project.run("up", "--no-ui", **{**theirs, "ETL_ELASTICSEARCH_PASSWORD": "sesame"})
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: ETL_ELASTICSEARCH_URL {search.elasticsearch_url}: ")
    assert refused.stderr.count("\n") == 1
    assert "sesame" not in refused.stderr


def test_without_java_everything_else_runs(project: Project, tmp_path: Path) -> None:
    """Most machines of data people have no Java: one line, and no failure."""
    path = tmp_path / "bin"
    path.mkdir()
    for tool in ("sh", "useradd"):
        if found := shutil.which(tool):
            (path / tool).symlink_to(found)
    no_java = {"PATH": str(path), "JAVA_HOME": "", "ES_JAVA_HOME": ""}
    result = project.run("up", *WITH_SEARCH, **no_java)
    assert result.returncode == 0, result.stderr
    told = [line for line in (result.stdout + result.stderr).splitlines() if "elasticsearch" in line]
    assert told == [
        "elasticsearch is not started: there is no Java. Install Java 17 or newer, or set ETL_ELASTICSEARCH_URL. "
        "Everything else runs."
    ]
    status = project.run("status", **no_java)
    assert status.returncode == 0
    assert told[0] in status.stdout
    assert set(pids(project)) == {"postgres", "s3"}


def test_a_setting_that_names_nothing_is_one_clear_line(tmp_path: Path) -> None:
    """Nobody listens there: transient, named, and nothing is started instead."""
    environment = {"ETL_ELASTICSEARCH_URL": "http://etl:sesame@127.0.0.1:1"}
    result = Project(tmp_path).run("up", "--no-ui", **environment)
    assert result.returncode == 75, result.stderr
    assert result.stderr.count("\n") == 1
    assert "ETL_ELASTICSEARCH_URL http://127.0.0.1:1: " in result.stderr
    assert "sesame" not in result.stderr
    assert not (tmp_path / ".etl" / "postgres").exists()
