"""What is started here, and how it is: asked of each server, nothing is changed."""

from pathlib import Path

from etl_resources.errors import DataPipelineError
from etl_resources.settings import Settings
from etl_resources.stack.companion import is_replaced, known_companions
from etl_resources.stack.dagster_servers import Daemon, WebServer
from etl_resources.stack.elasticsearch import ElasticsearchServer
from etl_resources.stack.elasticsearch_files import NoElasticsearchError, find_java
from etl_resources.stack.external import ERP_ADMIN_SECRET, ERP_SECRET, External, published_values
from etl_resources.stack.launch import Server
from etl_resources.stack.postgres import Postgres
from etl_resources.stack.processes import main_process, recorded
from etl_resources.stack.report import ServerStatus, StackStatus
from etl_resources.stack.s3 import SeaweedFS
from etl_resources.stack.spark import started_spark_servers
from etl_resources.stack.state import ServerRecord, StackState


def status_of(settings: Settings, home: Path, state: StackState, external: External, bucket: str) -> StackStatus:
    """Every server that is a part of the stack, and how to connect."""
    values, erp = published_values(state, external)
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
        spark_master=values.get("spark_master"),
        without=() if any(s.name == ElasticsearchServer.name for s in servers) else (without_search(_why_no_search()),),
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
        "elasticsearch": (ElasticsearchServer(home, "", lambda _: None), external.search is None),
        **{c.name: (c, not is_replaced(home, state, c.companion)) for c in known_companions(home, state, home)},
        **{s.name: (s, True) for s in started_spark_servers(home, state)},
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


def without_search(reason: str) -> str:
    """Why there is no Elasticsearch, as a line."""
    return f"elasticsearch is not started: {reason}. Everything else runs."
