"""`up`, `down` and `status` of the whole stack."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_urlsafe

from etl_resources.errors import DataPipelineError, SettingsError
from etl_resources.settings import Settings
from etl_resources.stack.companion import (
    Companion,
    CompanionServer,
    companion_addresses,
    is_replaced,
    known_companions,
)
from etl_resources.stack.dagster_servers import PROJECT_FILES, Daemon, WebServer, require_project
from etl_resources.stack.elasticsearch import ElasticsearchServer
from etl_resources.stack.elasticsearch_files import NoElasticsearchError, find_java
from etl_resources.stack.external import (
    CRM_SECRET,
    ERP_ADMIN_SECRET,
    ERP_SECRET,
    External,
    embedded_values,
    external_services,
)
from etl_resources.stack.launch import Launcher, Server
from etl_resources.stack.postgres import Postgres
from etl_resources.stack.processes import everything, main_process, recorded, stop
from etl_resources.stack.report import ServerStatus, StackStatus
from etl_resources.stack.s3 import SeaweedFS
from etl_resources.stack.state import ServerRecord, StackState, exclusive, load, save, write_private

Progress = Callable[[str], None]
HASH_KEY, HASH_KEY_FILE, HASH_KEY_BYTES = "HASH_KEY", "hash-key", 32
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
) -> StackStatus:
    """Start what isn't running, wait until everything is usable. Safe to repeat and to interrupt.

    A service that is set in the environment is checked and left alone. `bucket` is made in the embedded S3.
    `companions` are started now and by every later `up` of this home. Where no Elasticsearch can be had, as without
    Java, everything else is started, and the status says so.
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
            current.settings, current.secrets = _published(current, external)

        launcher = Launcher(home, state, progress, publish)
        server, without = _search_server(launcher, settings, external) if search else (None, ())
        _up_services(launcher, external, bucket, server)
        _up_companions(launcher, companions, project_dir.resolve())
        _forget_unused(launcher, ui=ui, search=server is not None)
        if ui:
            _up_dagster(launcher, external, project_dir.resolve(), settings.project)
        publish(state)
        save(home, state)
        return _status(settings, home, state, external, bucket).model_copy(update={"without": without})


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


def status(settings: Settings, *, bucket: str) -> StackStatus:
    """The stack as it is now; starts and changes nothing. Raises SettingsError for half-given S3 settings."""
    home = settings.home.resolve()
    state = load(home)
    return _status(settings, home, state, external_services(settings, state, bucket), bucket)


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
        return None, (_without(str(e)),)
    return server, ()


def _without(reason: str) -> str:
    return f"elasticsearch is not started: {reason}. Everything else runs."


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


def _forget_unused(launcher: Launcher, *, ui: bool, search: bool) -> None:
    """What wasn't asked for and doesn't run is no part of the stack any more. Its data stays."""
    wanted: tuple[tuple[type[Server], bool], ...] = ((WebServer, ui), (Daemon, ui), (ElasticsearchServer, search))
    for server in (server for server, is_wanted in wanted if not is_wanted):
        record = launcher.state.servers.get(server.name)
        if record and not recorded(record, launcher.home):
            _stop(server, launcher.home, launcher.state, launcher.progress)
            del launcher.state.servers[server.name]


def _up_dagster(launcher: Launcher, external: External, project_dir: Path, datasets: Path | None) -> None:
    values, erp = _published(launcher.state, external)
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


def _published(state: StackState, external: External) -> tuple[dict[str, str], dict[str, str]]:
    """What load_settings() and resolve_secret() shall find: only of services that are embedded."""
    values, secrets = embedded_values(state)
    if external.platform:
        values.pop("postgres_dsn", None)
    if external.s3:
        values = {name: value for name, value in values.items() if not name.startswith("s3_")}
        secrets.pop(CRM_SECRET, None)
    if external.search:
        values = {name: value for name, value in values.items() if not name.startswith("elasticsearch_")}
    if external.erp:
        for name in (ERP_SECRET, ERP_ADMIN_SECRET):
            secrets.pop(name, None)
    made = {HASH_KEY: state.secrets[HASH_KEY]} if HASH_KEY in state.secrets else {}
    return values, {**secrets, **companion_addresses(state), **made}


def _status(settings: Settings, home: Path, state: StackState, external: External, bucket: str) -> StackStatus:
    values, erp = _published(state, external)
    s3 = external.s3
    web = state.servers.get(WebServer.name)
    platform_dsn = external.platform.dsn if external.platform else values.get("postgres_dsn")
    servers = (*_embedded(home, state, external, bucket, platform_dsn), *external.statuses())
    return StackStatus(
        home=home,
        servers=servers,
        bucket=bucket,
        postgres_dsn=platform_dsn,
        erp_dsn=external.erp.dsn if external.erp else erp.get(ERP_SECRET),
        erp_admin_dsn=erp.get(ERP_ADMIN_SECRET),
        s3_endpoint=s3.endpoint if s3 else values.get("s3_endpoint"),
        s3_access_key=s3.access_key if s3 else values.get("s3_access_key"),
        s3_secret_key=s3.secret_key if s3 else values.get("s3_secret_key"),
        s3_region=settings.s3_region,
        elasticsearch_url=external.search.address if external.search else values.get("elasticsearch_url"),
        elasticsearch_username=values.get("elasticsearch_username"),
        elasticsearch_password=values.get("elasticsearch_password"),
        without=() if any(s.name == ElasticsearchServer.name for s in servers) else (_without(_why_no_search()),),
        ui_url=f"http://127.0.0.1:{web.ports['http']}" if web and web.ports else None,
    )


def _why_no_search() -> str:
    try:
        find_java(None)
    except NoElasticsearchError as e:
        return str(e)
    return "`data-pipeline up` starts it"


def _embedded(
    home: Path, state: StackState, external: External, bucket: str, platform_dsn: str | None
) -> list[ServerStatus]:
    servers: dict[str, tuple[Server, bool]] = {
        "postgres": (Postgres(home), external.platform is None or external.erp is None),
        "s3": (SeaweedFS(home, bucket), external.s3 is None),
        "elasticsearch": (ElasticsearchServer(home, "", _silent), external.search is None),
        **{c.name: (c, not is_replaced(home, state, c.companion)) for c in known_companions(home, state, home)},
        **{s.name: (s(home, home, platform_dsn or ""), True) for s in (WebServer, Daemon)},
    }
    found = []
    for name, (server, needed) in servers.items():
        record = state.servers.get(name)
        if record is not None and (needed or recorded(record, home)):
            found.append(_server_status(server, record, home))
    return found


def _server_status(server: Server, record: ServerRecord, home: Path) -> ServerStatus:
    has_started = set(server.port_names) <= set(record.ports)
    process, problem = None, ""
    try:
        process = main_process(record, home, server.name, server.command(record).argv) if has_started else None
        if process is None:
            problem = "Not running: `data-pipeline up` starts it."
        else:
            server.check(record)
    except DataPipelineError as e:
        problem = str(e)
    main_port = record.ports.get("s3") or next(iter(record.ports.values()), None)
    return ServerStatus(
        name=server.name,
        kind="embedded",
        healthy=not problem,
        detail=problem,
        address=f"127.0.0.1:{main_port}" if main_port else "",
        port=main_port,
        pid=process.pid if process else None,
        log=home / "logs" / f"{server.name}.log",
    )
