"""Names of a target's indexes and aliases, computed from target, partition and attempt; parsed back from the server.

    orders                              alias that readers search: one index per published partition
    orders-2024-01-17-3f0c9b2a6d1e      index of a partition at an epoch, filled by one attempt
    orders-2024-01-17-3f0c9b2a6d1e--fill  alias through which that attempt writes, until it is published
    orders-anchor                       hidden index; its alias orders--v12 says that 12 changes were published
    orders-documents                    index of a target that is upserted
    orders-documents--fill-17-3f0c9b2a6d1e  alias through which the attempt that holds the target writes
    orders-documents--begun-17  alias: requests of the attempt at epoch 17 may be under way
    orders-documents--ended-17  alias: every request of it was answered

A target's name has no hyphen, so that `orders-*` never means another target's indexes.
"""

import re
from dataclasses import dataclass

from etl_resources.errors import PermanentError

_TARGET = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
_FILLED = re.compile(r"^([a-z][a-z0-9_]*)-((?:[a-z-]+-)?\d{4}-\d{2}(?:-\d{2})?|all)-(\d+)-([0-9a-f]{12})$")
_HOLDER = re.compile(r"--fill-(\d+)-([0-9a-f]{12})$")
_BEGUN, _ENDED = re.compile(r"--begun-(\d+)$"), re.compile(r"--ended-(\d+)$")
_VERSION = re.compile(r"--v(\d+)$")


@dataclass(frozen=True)
class PartitionIndex:
    """The index that one attempt fills with one partition."""

    target: str
    partition: str
    epoch: int
    mark: str
    """The attempt's own digits."""

    def __str__(self) -> str:
        return f"{self.target}-{self.partition}-{self.epoch}-{self.mark}"

    @property
    def fill(self) -> str:
        """Alias through which it is filled. A late request finds it gone, and creates nothing under its name."""
        return f"{self}--fill"

    @classmethod
    def parse(cls, name: str) -> "PartitionIndex | None":
        """None for a name of another form."""
        found = _FILLED.match(name)
        return cls(found[1], found[2], int(found[3]), found[4]) if found else None


def checked_target(name: str) -> str:
    """The name, if an index may be called so. Raises PermanentError: the name ends up in addresses."""
    if not _TARGET.match(name):
        raise PermanentError(f"{name!r} can't name an Elasticsearch target: lower case letters, digits and _.")
    return name


def mark_of(attempt: str) -> str:
    """An attempt's own digits, at the end of its id."""
    return attempt[-12:]


def anchor(target: str) -> str:
    """Index whose alias counts the target's publishes, and that holds the commit records of upserts."""
    return f"{target}-anchor"


def every_index(target: str) -> str:
    """Pattern of the target's indexes. Their names would not fit into an address: a server takes 4,096 bytes."""
    return f"{target}-*"


def documents(target: str) -> str:
    """Index of a target that is upserted."""
    return f"{target}-documents"


def version_alias(target: str, number: int) -> str:
    """Alias of the anchor after this many changes."""
    return f"{target}--v{number}"


def version_number(alias: str) -> int | None:
    """The number in a version alias; None for another alias."""
    found = _VERSION.search(alias)
    return int(found[1]) if found else None


def holder_alias(target: str, epoch: int, attempt: str) -> str:
    """Alias through which an attempt upserts while it holds the target."""
    return f"{documents(target)}--fill-{epoch}-{mark_of(attempt)}"


def holder_of(alias: str) -> tuple[int, str] | None:
    """(epoch, mark) of a holder's alias; None for another alias."""
    found = _HOLDER.search(alias)
    return (int(found[1]), found[2]) if found else None


def begun_alias(target: str, epoch: int) -> str:
    """Alias that says that an attempt began to write."""
    return f"{documents(target)}--begun-{epoch}"


def ended_alias(target: str, epoch: int) -> str:
    """Alias that says that an attempt ended, and has no request under way."""
    return f"{documents(target)}--ended-{epoch}"


def begun_epoch(alias: str) -> int | None:
    """Epoch of a begun_alias; None for another alias."""
    found = _BEGUN.search(alias)
    return int(found[1]) if found else None


def ended_epoch(alias: str) -> int | None:
    """Epoch of an ended_alias; None for another alias."""
    found = _ENDED.search(alias)
    return int(found[1]) if found else None
