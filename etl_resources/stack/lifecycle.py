"""`up`, `down` and `status` of the whole stack."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_urlsafe
from typing import Literal

from etl_resources.errors import PermanentError, SettingsError
from etl_resources.settings import Settings
from etl_resources.stack.companion import Companion, CompanionServer, is_replaced, known_companions
from etl_resources.stack.dagster_servers import PROJECT_FILES, Daemon, WebServer, require_project
from etl_resources.stack.elasticsearch import ElasticsearchServer
from etl_resources.stack.elasticsearch_files import NoElasticsearchError
from etl_resources.stack.external import HASH_KEY, External, external_services, published_values
from etl_resources.stack.health import status_of, without_search
from etl_resources.stack.launch import Launcher, Server
from etl_resources.stack.postgres import Postgres
from etl_resources.stack.processes import everything, recorded, stop
from etl_resources.stack.report import StackStatus
from etl_resources.stack.s3 import SeaweedFS
from etl_resources.stack.spark import SparkMaster, require_spark, spark_servers, started_spark_servers
from etl_resources.stack.state import (
    ServerRecord,
    SparkShape,
    StackState,
    exclusive,
    load,
    save,
    write_private,
)

Progress = Callable[[str], None]
HASH_KEY_FILE, HASH_KEY_BYTES = "hash-key", 32
"""Of hashed columns, in a file of its own: passwords may be renewed, another key would make every such table anew."""
_STOP_ORDER: tuple[tuple[type[Server], ...], ...] = ((Daemon, WebServer), (SeaweedFS, Postgres, ElasticsearchServer))
"""Groups stop one after the other: a run that is cancelled still writes its end to Postgres."""


def _silent(_: str) -> None:
    return


def up(
    settings: Settings,
    *,
    bucket: str,
    project_dir: Path,
    ui: bool = True,
    search: bool = True,
    progress: Progress = _silent,
    companions: Sequence[Companion] = (),
    spark: SparkShape | Literal["none"] | None = None,
) -> StackStatus:
    """Start what isn't running, wait until everything is usable. Safe to repeat and to interrupt.

    A service that is set in the environment is checked and left alone. `bucket` is made in the embedded S3.
    `companions` and `spark` are started now and by every later `up` of this home, until `spark` is "none".
    Where no Elasticsearch or Spark can be had, as without Java, everything else is started, and the status says so.
    Raises SettingsError for an unusable external service, TransientError or PermanentError when a server of
    ours doesn't become ready; the others keep running then.
    """
    if ui:
        require_project(project_dir, PROJECT_FILES, ", or use --no-ui")
    home = _make_home(settings)
    with exclusive(home, progress):
        state = load(home)
        external = external_services(settings, state, bucket)
        external.check()
        state.secrets[HASH_KEY] = _hash_key(home)

        def publish(current: StackState) -> None:
            current.settings, current.secrets = published_values(current, external)

        launcher = Launcher(home, state, progress, publish)
        server, without = _search_server(launcher, settings, external) if search else (None, ())
        _up_services(launcher, external, bucket, server)
        _up_companions(launcher, companions, project_dir.resolve())
        without = (*without, *_up_spark(launcher, spark))
        _forget_unused(launcher, ui=ui, search=server is not None)
        if ui:
            _up_dagster(launcher, external, project_dir.resolve(), settings.project)
        publish(state)
        save(home, state)
        return status_of(settings, home, state, external, bucket).model_copy(update={"without": without})


def down(settings: Settings, progress: Progress = _silent) -> None:
    """Stop the servers of this home, and only those. Data and credentials stay. Safe to repeat."""
    home = settings.home.resolve()
    if not home.exists():
        progress("nothing is started")
        return
    with exclusive(home, progress):
        state = load(home)
        for companion in known_companions(home, state, home):
            _stop(companion, home, state, progress)
        for group in _STOP_ORDER:
            with ThreadPoolExecutor(len(group)) as pool:
                list(pool.map(lambda server: _stop(server, home, state, progress), group))
            if Daemon in group:
                _stop_spark(home, state, progress)
        if SeaweedFS.name in state.servers:
            SeaweedFS.remove_sockets(state.servers[SeaweedFS.name])
        if state.servers:
            save(home, state)
        progress("stopped")


def _stop(server: Server | type[Server], home: Path, state: StackState, progress: Progress) -> None:
    record = state.servers.get(server.name, ServerRecord())
    if processes := everything(record, home, server.name):
        progress(f"{server.name}: stopping")
        stop(processes, gentle=server.stop_signal, grace_s=server.stop_grace_s)
    record.pid = record.create_time = None


def _stop_spark(home: Path, state: StackState, progress: Progress) -> None:
    for server in reversed(started_spark_servers(home, state)):
        _stop(server, home, state, progress)
    SparkMaster(home).forget_runs()


def status(settings: Settings, *, bucket: str) -> StackStatus:
    """The stack as it is now; starts and changes nothing. Raises SettingsError for half-given S3 settings."""
    home = settings.home.resolve()
    state = load(home)
    return status_of(settings, home, state, external_services(settings, state, bucket), bucket)


def _make_home(settings: Settings) -> Path:
    home = settings.home.resolve()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise SettingsError(f"ETL_HOME {home} can't be made: {e.strerror}. Name another folder.") from e
    return home


def _search_server(
    launcher: Launcher, settings: Settings, external: External
) -> tuple[ElasticsearchServer | None, tuple[str, ...]]:
    """The embedded Elasticsearch, installed; or why there is none."""
    if external.search is not None:
        return None, ()
    server = ElasticsearchServer(launcher.home, settings.maven_repository, launcher.progress)
    try:
        server.install()
    except NoElasticsearchError as e:
        return None, (without_search(str(e)),)
    return server, ()


def _up_services(launcher: Launcher, external: External, bucket: str, search: ElasticsearchServer | None) -> None:
    """They start side by side: each waits mostly for itself, Elasticsearch longest."""
    servers: list[Server] = [search] if search else []
    if external.s3 is None:
        servers.append(SeaweedFS(launcher.home, bucket))
    if external.platform is None or external.erp is None:
        servers.append(Postgres(launcher.home))
    for server in servers:
        launcher.launch(server)
    for server in reversed(servers):
        launcher.await_ready(server)
        launcher.progress(f"{server.name}: ready")


def _up_companions(launcher: Launcher, declared: Sequence[Companion], project_dir: Path) -> None:
    home, state = launcher.home, launcher.state
    servers = {s.name: s for s in known_companions(home, state, project_dir)}
    servers |= {c.name: CompanionServer(home, c, project_dir) for c in declared}
    for server in servers.values():
        if not is_replaced(home, state, server.companion):
            launcher.launch(server)
            launcher.await_ready(server)
            launcher.progress(f"{server.name}: ready")


def _up_spark(launcher: Launcher, wanted: SparkShape | Literal["none"] | None) -> tuple[str, ...]:
    """The master, then its workers side by side; or why there are none."""
    state = launcher.state
    if wanted is not None:
        state.spark = None if wanted == "none" else wanted
    servers = spark_servers(launcher.home, state)
    try:
        if servers:
            require_spark()
    except PermanentError as e:
        return (f"spark is not started: {e} Everything else runs.",)
    for server in started_spark_servers(launcher.home, state):
        if server.name not in {s.name for s in servers}:
            _stop(server, launcher.home, state, launcher.progress)
            del state.servers[server.name]
    for group in (servers[:1], servers[1:]):
        for server in group:
            launcher.launch(server)
        for server in group:
            launcher.await_ready(server)
            launcher.progress(f"{server.name}: ready")
    return ()


def _forget_unused(launcher: Launcher, *, ui: bool, search: bool) -> None:
    """What wasn't asked for and doesn't run is no part of the stack any more. Its data stays."""
    wanted: tuple[tuple[type[Server], bool], ...] = ((WebServer, ui), (Daemon, ui), (ElasticsearchServer, search))
    for server in (server for server, is_wanted in wanted if not is_wanted):
        record = launcher.state.servers.get(server.name)
        if record and not recorded(record, launcher.home):
            _stop(server, launcher.home, launcher.state, launcher.progress)
            del launcher.state.servers[server.name]


def _up_dagster(launcher: Launcher, external: External, project_dir: Path, datasets: Path | None) -> None:
    values, erp = published_values(launcher.state, external)
    platform_dsn = external.platform.dsn if external.platform else values["postgres_dsn"]
    web = WebServer(launcher.home, project_dir, platform_dsn)
    daemon = Daemon(launcher.home, project_dir, platform_dsn)
    files = [(project_dir / name).read_bytes() for name in PROJECT_FILES]
    dependencies = repr((platform_dsn, external, sorted(values.items()), sorted(erp.items()), files, datasets))
    extra = hashlib.sha256(dependencies.encode()).hexdigest()
    launcher.launch(web, extra, web.preferred_ports())
    launcher.launch(daemon, extra)
    for server in (web, daemon):
        launcher.await_ready(server, extra)
        launcher.progress(f"{server.name}: ready")


def _hash_key(home: Path) -> str:
    """The key of this home, made at the first time. Raises SettingsError when its file can't be read."""
    path = home / HASH_KEY_FILE
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        write_private(path, token_urlsafe(HASH_KEY_BYTES))
        return path.read_text().strip()
    except OSError as e:
        raise SettingsError(f"{path}, the key of hashed columns, can't be read: {e.strerror}. Check its owner.") from e
