"""What a recovery did, or in a dry run would do."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Action:
    """One thing that was done, or in a dry run would be."""

    table: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.table}: {self.what} ({self.why})"


@dataclass(frozen=True)
class Unsettled:
    """One thing that recovery can't repair, with what to do about it."""

    table: str
    problem: str

    def __str__(self) -> str:
        return f"{self.table}: {self.problem}"


@dataclass
class Recovery:
    """What a recovery did, in order."""

    dry_run: bool = False
    actions: list[Action] = field(default_factory=list)
    unsettled: list[Unsettled] = field(default_factory=list)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self)
