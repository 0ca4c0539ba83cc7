"""The embedded Elasticsearch: one node, loopback only, two users with random passwords, bounded memory.

The distribution can't make the index of API keys, so users live in files; the platform's one has the rights that a key
for a real cluster needs, and no more (docs/settings.md).
"""

import base64
import hashlib
import json
import os
import secrets
import signal
import socket
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from etl_resources.classify import classify
from etl_resources.errors import TransientError
from etl_resources.settings import Settings
from etl_resources.sinks.elasticsearch_client import connect
from etl_resources.stack.account import ELASTICSEARCH, Account, data_folder, server_account
from etl_resources.stack.elasticsearch_files import Java, find_java, install, installation
from etl_resources.stack.ports import LOOPBACK
from etl_resources.stack.processes import Command
from etl_resources.stack.state import ServerRecord, write_private

ADMIN, USER = "etl_admin", "etl"
"""The superuser, for tests and repairs; and the user that the platform is."""
HEAP_MB = 512
_CHECK_TIMEOUT_S = 10
_HASH_ROUNDS = 10_000
_SETTINGS = f"""\
cluster.name: data-pipeline
node.name: embedded
network.host: {LOOPBACK}
discovery.type: single-node
xpack.security.enabled: true
xpack.security.autoconfiguration.enabled: false
xpack.security.authc.realms.file.file1.order: 0
xpack.security.authc.realms.native.native1.order: 1
xpack.security.authc.realms.native.native1.enabled: false
xpack.security.authc.reserved_realm.enabled: false
xpack.security.authc.api_key.enabled: false
xpack.security.authc.token.enabled: false
cluster.routing.allocation.disk.watermark.low: 1gb
cluster.routing.allocation.disk.watermark.high: 500mb
cluster.routing.allocation.disk.watermark.flood_stage: 250mb
"""
"""The default watermarks are percents, which a full laptop is above long before it lacks space."""
_ROLES = """\
data_pipeline:
  cluster: [monitor]
  indices: [{names: ['*'], privileges: [all]}]
"""
_JVM_OPTIONS = f"""\
-Xms{HEAP_MB // 4}m
-Xmx{HEAP_MB}m
-XX:+UseSerialGC
-XX:-AlwaysPreTouch
-XX:+ExitOnOutOfMemoryError
-Djava.io.tmpdir=${{ES_TMPDIR}}
-Des.queryable_built_in_roles_enabled=false
23:-XX:CompileCommand=dontinline,java/lang/invoke/MethodHandle.setAsTypeCache
23:-XX:CompileCommand=dontinline,java/lang/invoke/MethodHandle.asTypeUncached
"""
"""As delivered, without jdk.incubator.vector, which not every Java has, and without log files of the collector."""
_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%consoleException%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


def endpoint(record: ServerRecord) -> str:
    """Address with scheme."""
    return f"http://{LOOPBACK}:{record.ports['http']}"


class ElasticsearchServer:
    """Life cycle of one data folder. The recorded process is a launcher: it and the server end with each other."""

    name = "elasticsearch"
    port_names: tuple[str, ...] = ("http", "transport")
    start_timeout_s = 300
    stop_signal = signal.SIGTERM
    stop_grace_s = 60

    def __init__(self, home: Path, repository: str | None, progress: Callable[[str], None]) -> None:
        self._home = home
        self._repository = repository
        self._progress = progress

    @cached_property
    def _account(self) -> Account | None:
        return server_account(ELASTICSEARCH)

    @cached_property
    def _java(self) -> Java:
        return find_java(self._account)

    def install(self) -> None:
        """Fetch it where it isn't yet. Raises NoElasticsearchError when it can't be had, such as without Java."""
        install(installation(self._account), self._java, self._repository, self._progress)

    def new_secrets(self) -> dict[str, str]:
        """A random password per user."""
        return {user: secrets.token_urlsafe(24) for user in (ADMIN, USER)}

    def prepare(self, record: ServerRecord) -> None:
        """Write the configuration. Raises PermanentError when the data folder can't be made."""
        folder = data_folder(self._home / "elasticsearch", self._account, ELASTICSEARCH)
        config = folder / "config"
        paths = {"path.data": folder / "data", "path.logs": folder / "logs"}
        for private in (config, config / "jvm.options.d", folder / "tmp", *paths.values()):
            private.mkdir(mode=0o700, exist_ok=True)
            self._hand_over(private)
        placed = {**paths, "http.port": record.ports["http"], "transport.port": record.ports["transport"]}
        files = {
            "elasticsearch.yml": _SETTINGS
            + "".join(f"{name}: {json.dumps(str(value))}\n" for name, value in placed.items()),
            "jvm.options": _JVM_OPTIONS,
            "log4j2.properties": _LOGGING,
            "roles.yml": _ROLES,
            "users": "".join(f"{user}:{_hashed(record.secrets[user])}\n" for user in (ADMIN, USER)),
            "users_roles": f"superuser:{ADMIN}\ndata_pipeline:{USER}\n",
        }
        for name, text in files.items():
            write_private(config / name, text)
            self._hand_over(config / name)

    def command(self, record: ServerRecord) -> Command:  # noqa: ARG002  (Server)
        """What its script bin/elasticsearch runs in the end; no shell is between, so its arguments tell the process."""
        home, folder = installation(self._account), (self._home / "elasticsearch").resolve()
        config = folder / "config"
        argv = [
            *(self._java.command, "-Xms4m", "-Xmx64m", "-XX:+UseSerialGC"),
            *("-Dcli.name=server", f"-Dcli.script={home}/bin/elasticsearch", "-Dcli.libs=lib/tools/server-cli"),
            *(f"-Des.path.home={home}", f"-Des.path.conf={config}"),
            *("-Des.distribution.type=zip", "-Des.java.type=ES_JAVA_HOME"),
            *("-cp", f"{home}/lib/*:{home}/lib/cli-launcher/*", "org.elasticsearch.launcher.CliToolLauncher"),
        ]
        environment = {
            "ES_JAVA_HOME": str(self._java.home),
            "ES_PATH_CONF": str(config),
            "ES_TMPDIR": str(folder / "tmp"),
            **dict.fromkeys(("ES_JAVA_OPTS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS"), ""),
            "HOSTNAME": LOOPBACK,
        }
        ids = self._account.ids if self._account else None
        return Command(argv, home, environment | (self._account.environment if self._account else {}), ids)

    def settle(self, record: ServerRecord) -> None:
        """Nothing to make: users and roles are files."""
        record.provisioned = True

    def check(self, record: ServerRecord) -> None:
        """The platform's user is let in, and every shard can be read. Raises SettingsError or TransientError."""
        try:
            socket.create_connection((LOOPBACK, record.ports["http"]), timeout=_CHECK_TIMEOUT_S).close()
        except OSError as e:
            raise TransientError(f"{self.name}: not listening yet") from e
        check_health(client_settings(record))

    def _hand_over(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, *self._account.ids)


def client_settings(record: ServerRecord, user: str = USER) -> Settings:
    """Settings that reach this server alone, as one of its users."""
    return Settings.model_construct(
        elasticsearch_url=endpoint(record),
        elasticsearch_username=user,
        elasticsearch_password=SecretStr(record.secrets[user]),
    )


def check_health(settings: Settings) -> None:
    """The cluster answers to the credentials and can read all its data. Raises SettingsError or TransientError."""
    with connect(settings, timeout_s=_CHECK_TIMEOUT_S) as search:
        try:
            health: Mapping[str, Any] = search.cluster.health(timeout=f"{_CHECK_TIMEOUT_S // 2}s").body
        except Exception as e:
            known = classify(e)
            if known is None:
                raise
            raise known from e
    if health["status"] == "red":
        raise TransientError("Elasticsearch: some of its data can't be read yet (cluster status red).")


def _hashed(password: str) -> str:
    """PBKDF2 as Elasticsearch's file realm reads it."""
    salt = secrets.token_bytes(16)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _HASH_ROUNDS, 32)
    return f"{{PBKDF2}}{_HASH_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
