"""The run token names what is computed; the same inputs and logic give the same token on any machine (M7)."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

ABSENT = "absent"
"""Version of a partition that was read as empty because it isn't published: its first publish is a change."""


@dataclass(frozen=True, order=True)
class InputVersion:
    """Content of one input partition that was read: version is its row count and content hash."""

    asset: str
    partition: str
    version: str
    epoch: int = 0
    """Which publish of that content was read; audit data, not part of the token."""
    looked_up: bool = False
    """The version is of what was looked up: rows of a table, or the control totals of a capture. No row of the output
    stems from it, and what it was captured with is no matter."""


def run_token(*, tenant: str, asset: str, partition: str, logic_version: str, inputs: Iterable[InputVersion]) -> str:
    """64 hex digits of sha256 over tenant, asset, partition, logic version and the sorted input versions."""
    identity = [tenant, asset, partition, logic_version, sorted([i.asset, i.partition, i.version] for i in inputs)]
    return hashlib.sha256(json.dumps(identity, separators=(",", ":")).encode()).hexdigest()


def inputs_as_json(inputs: Iterable[InputVersion]) -> list[dict[str, object]]:
    """Inputs as the ledger and a commit's summary keep them."""
    return [asdict(i) for i in inputs]
