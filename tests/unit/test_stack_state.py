"""The stack's state file, its ports and placement, without any server."""

import json
import os
import socket
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from etl_resources.errors import PermanentError, SettingsError, TransientError
from etl_resources.settings import STACK_FILE, Settings, load_settings
from etl_resources.stack import ServerStatus, StackStatus, ports
from etl_resources.stack.account import POSTGRES as REFUSING
from etl_resources.stack.account import Account, data_folder, reachable
from etl_resources.stack.external import External, ExternalS3, embedded_values, external_services
from etl_resources.stack.processes import Command, spawn
from etl_resources.stack.state import ServerRecord, StackState, exclusive, load, save

POSTGRES = ServerRecord(
    ports={"sql": 5433},
    secrets={"etl_superuser": "s-uper", "etl": "pass/word", "erp_admin": "a", "erp_reader": "r"},
)
S3 = ServerRecord(ports={"s3": 8333, "master": 9333}, secrets={"access_key": "AK", "secret_key": "SK"})
BOTH = StackState(servers={"postgres": POSTGRES, "s3": S3})


def silent(_: str) -> None:
    return


@pytest.fixture(autouse=True)
def _no_outside_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith(("ETL_", "ERP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ETL_HOME", str(tmp_path))


SEARCH = ServerRecord(ports={"http": 9200, "transport": 9300}, secrets={"etl_admin": "a-dmin", "etl": "s/earch"})


def settings(home: Path, **values: str) -> Settings:
    secret = {k: SecretStr(v) for k, v in values.items() if "key" in k or "dsn" in k or "password" in k}
    return load_settings(home=home, **{**values, **secret})


def test_state_survives_the_round_trip_and_is_private(tmp_path: Path) -> None:
    """Passwords are in it: nobody else on the machine may read it, whatever the umask."""
    before = os.umask(0)
    try:
        save(tmp_path, BOTH)
    finally:
        os.umask(before)
    assert load(tmp_path) == BOTH
    assert stat.S_IMODE((tmp_path / STACK_FILE).stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == [STACK_FILE]


def test_an_interrupted_save_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torn file would lose the passwords of a database with data in it."""
    save(tmp_path, BOTH)

    def broken(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, StackState())
    assert load(tmp_path) == BOTH
    assert [p.name for p in tmp_path.iterdir()] == [STACK_FILE]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        (json.dumps({"version": 1, "servers": {"s3": {"pid": "x"}}}), "damaged"),
        (json.dumps({"version": 99}), "version 99"),
    ],
)
def test_a_damaged_state_file_says_what_to_do(tmp_path: Path, content: str, says: str) -> None:
    """Never a traceback, never a silent new start that forgets running servers."""
    (tmp_path / STACK_FILE).write_text(content)
    with pytest.raises(SettingsError, match=f"{STACK_FILE}.*{says}.*move|{says}.*Move"):
        load(tmp_path)


def test_no_state_file_is_an_empty_state(tmp_path: Path) -> None:
    """The first `up`, and `status` before it."""
    assert load(tmp_path) == StackState()


def test_the_lock_is_bounded_and_freed(tmp_path: Path) -> None:
    """Two `up` at once: one waits, and not for ever."""
    said: list[str] = []
    with (
        exclusive(tmp_path, silent),
        pytest.raises(TransientError, match=r"stack\.lock"),
        exclusive(tmp_path, said.append, timeout_s=0.2),
    ):
        pass
    assert said == ["waiting for another `data-pipeline up` or `down`"]
    with exclusive(tmp_path, silent, timeout_s=0):
        pass


def test_remembered_ports_are_kept_while_they_are_free() -> None:
    """Somebody has the address in a notebook; but a stranger's port can't be had."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        chosen = ports.choose(("a", "b"), {"a": taken, "b": 1}, set())
    assert taken not in chosen.values()
    assert len(set(chosen.values())) == 2
    assert ports.choose(("a", "b"), chosen, set()) == chosen


def test_ports_of_other_servers_are_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chosen for a server that doesn't listen yet, they still look free."""
    monkeypatch.setattr(ports, "_RANGE", range(20_000, 20_002))
    monkeypatch.setattr(ports, "is_free", lambda port: True)
    assert ports.choose(("a",), {}, {20_000}) == {"a": 20_001}
    with pytest.raises(TransientError, match="No free TCP port"):
        ports.choose(("a",), {}, {20_000, 20_001})


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    """A broken installation is one line."""
    with pytest.raises(PermanentError, match="s3: /nowhere/weed can't be started"):
        spawn(Command(["/nowhere/weed"], tmp_path), home=tmp_path, server="s3", log=tmp_path / "logs" / "s3.log")


def test_embedded_values_are_addresses_with_quoted_passwords() -> None:
    """load_settings() reads exactly these."""
    values, secrets = embedded_values(BOTH)
    assert values == {
        "postgres_dsn": "postgresql://etl:pass%2Fword@127.0.0.1:5433/platform",
        "s3_endpoint": "http://127.0.0.1:8333",
        "s3_access_key": "AK",
        "s3_secret_key": "SK",
    }
    assert secrets["ERP_DSN"] == "postgresql://erp_reader:r@127.0.0.1:5433/erp"
    assert secrets["ERP_ADMIN_DSN"] == "postgresql://erp_admin:a@127.0.0.1:5433/erp"
    assert secrets["CRM_S3_URL"] == "s3+http://AK:SK@127.0.0.1:8333/crm-drop"


def test_our_own_values_in_the_environment_are_not_external(tmp_path: Path) -> None:
    """Exporting what `status --json` prints must not turn the embedded stack into a stranger."""
    values, _ = embedded_values(BOTH)
    external = external_services(settings(tmp_path, **values), BOTH, "b")
    assert external == External(None, None, None, None)


def test_other_values_are_external(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each service by itself."""
    monkeypatch.setenv("ERP_DSN", "postgresql://x@erp.example/erp")
    theirs = {
        "postgres_dsn": "postgresql://u:p@db.example:6432/x",
        "s3_endpoint": "https://s3.example",
        "s3_access_key": "a",
        "s3_secret_key": "b",
        "s3_region": "eu-central-1",
    }
    external = external_services(settings(tmp_path, **theirs), BOTH, "bucket")
    assert external.platform is not None
    assert external.platform.address == "db.example:6432"
    assert external.erp is not None
    assert external.erp.address == "erp.example:5432"
    assert external.s3 == ExternalS3("https://s3.example", "a", "b", "eu-central-1", "bucket")
    assert external.search is None


def test_an_elasticsearch_of_ones_own_never_gets_the_embedded_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the address is set, while a stack is recorded: its password is nobody else's business."""
    values, _ = embedded_values(StackState(servers={"elasticsearch": SEARCH}))
    save(tmp_path, StackState(settings=values))
    assert load_settings().elasticsearch_password == SecretStr("s/earch")
    monkeypatch.setenv("ETL_ELASTICSEARCH_URL", "https://user:sesame@search.example")
    found = load_settings()
    assert (found.elasticsearch_username, found.elasticsearch_password) == (None, None)
    external = external_services(found, StackState(servers={"elasticsearch": SEARCH}), "b").search
    assert external is not None
    assert external.address == "https://search.example:443"


def test_credentials_of_elasticsearch_without_an_address_are_refused(tmp_path: Path) -> None:
    """They belong to a server that isn't named."""
    with pytest.raises(SettingsError, match="without ETL_ELASTICSEARCH_URL"):
        external_services(settings(tmp_path, elasticsearch_api_key="abc"), StackState(), "b")


def test_half_of_the_s3_settings_is_refused(tmp_path: Path) -> None:
    """The embedded keys must never be sent to somebody's endpoint."""
    values, _ = embedded_values(BOTH)
    half = {**values, "s3_endpoint": "https://s3.example"}
    with pytest.raises(SettingsError, match="ETL_S3_ENDPOINT is set without ETL_S3_ACCESS_KEY, ETL_S3_SECRET_KEY"):
        external_services(settings(tmp_path, **half), BOTH, "b")


def test_an_endpoint_without_scheme_is_explained() -> None:
    """localhost:9000 is a common slip."""
    with pytest.raises(SettingsError, match="ETL_S3_ENDPOINT 'localhost:9000' has no scheme"):
        ExternalS3("localhost:9000", "a", "b", "r", "b").check()


def test_people_see_no_password_and_a_way_out(tmp_path: Path) -> None:
    """The human output ends up in tickets."""
    servers = (
        ServerStatus(name="postgres", kind="embedded", healthy=True, detail="", address="127.0.0.1:5433", pid=7),
        ServerStatus(name="s3", kind="external", healthy=False, detail="no bucket b.", address="https://s3.example"),
    )
    status = StackStatus(home=tmp_path, servers=servers, bucket="b", postgres_dsn="postgresql://etl:sesame@h/p")
    assert not status.healthy
    assert status.lines() == [
        "postgres  ok    embedded  127.0.0.1:5433, pid 7",
        "s3        DOWN  external  https://s3.example\n                no bucket b.",
    ]
    assert StackStatus(home=tmp_path, servers=(), bucket="b").lines() == [
        f"nothing is started in {tmp_path}. Run `data-pipeline up`."
    ]


def test_a_closed_folder_is_not_reachable_for_another_account(tmp_path: Path) -> None:
    """Root's home is 0700: Postgres, running as somebody else, can't have its data there."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    owner = closed.stat().st_uid
    assert not reachable(closed / "data", Account("other", owner + 1, 1_234_567))
    assert reachable(Path("/etc/hosts"), Account("other", 4_242, 4_242))


def test_a_link_to_nowhere_is_explained(tmp_path: Path) -> None:
    """The system folder was cleaned: an empty database in its place would hide the loss."""
    (tmp_path / "postgres").symlink_to(tmp_path / "gone")
    with pytest.raises(PermanentError, match=r"gone, which is gone\. Restore it"):
        data_folder(tmp_path / "postgres", None, REFUSING)
