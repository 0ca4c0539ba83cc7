"""Evidence objects: what the ledger knows of an attempt, written beside the table before the attempt may publish.

{location}/evidence/{epoch}-{attempt}.json holds the attempt's record. With it a ledger that was lost is rebuilt from
the tables (tables/rebuild).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_resources.ledger.attempt_records import attempt_record

if TYPE_CHECKING:
    import psycopg
    from pyiceberg.io import FileIO

FOLDER = "evidence"


@dataclass(frozen=True)
class EvidencePath:
    """Name of an evidence object."""

    epoch: int
    attempt: str

    def record(self, location: str) -> str:
        """Path of the attempt's record."""
        return f"{location}/{FOLDER}/{self.epoch}-{self.attempt}.json"

    @classmethod
    def parse(cls, path: str) -> "EvidencePath | None":
        """From its path; None for a file of somebody else."""
        _, found, name = path.rpartition(f"/{FOLDER}/")
        epoch, _, attempt = name.partition("/")[0].removesuffix(".json").partition("-")
        return cls(int(epoch), attempt) if found and epoch.isdecimal() and attempt else None


def write_evidence(io: "FileIO", connection: "psycopg.Connection[Any]", location: str, attempt: str) -> None:
    """One small object per attempt, before its branch exists."""
    epoch, record = attempt_record(connection, attempt)
    path = EvidencePath(epoch, attempt).record(location)
    with io.new_output(path).create(overwrite=True) as stream:
        stream.write(record.encode())
