"""At which size a run computes its datasets: as their manifests say, as somebody asked, or raised (M1, M15b)."""

from collections.abc import Mapping
from dataclasses import dataclass

from etl_resources.errors import PermanentError
from etl_resources.manifest import Platform
from etl_resources.manifest_runner import Runner
from etl_resources.suggest import hint

SIZE_TAG, RAISED_TAG = "data-pipeline/size", "data-pipeline/raised-to"
"""Tags of a run: the size of every dataset in it; the size up to which its datasets are raised, where they allow it."""
NEEDS_APPROVAL = "xlarge"
"""Size that nobody may run without an approval on record (M2)."""
REFUSED = (
    "size xlarge needs an approval, and there are no approvals yet: take a smaller size, and fewer periods at once "
    "(--from, --to)"
)


@dataclass(frozen=True)
class SizeChoice:
    """What is asked of a run. At most one of the two is given; neither: each dataset runs at its manifest's size."""

    asked: str | None = None
    """Of every dataset, whatever its manifest says."""
    raised_to: str | None = None
    """Datasets whose runner has `up_to` run at this size, or at that of `up_to` if that is smaller."""

    @classmethod
    def of_tags(cls, tags: Mapping[str, str]) -> "SizeChoice":
        """That of a run, by its tags; what was asked for counts first."""
        asked = tags.get(SIZE_TAG)
        return cls(asked, None if asked else tags.get(RAISED_TAG))

    @property
    def tags(self) -> Mapping[str, str]:
        """Of the runs that are launched by this choice."""
        given = {SIZE_TAG: self.asked, RAISED_TAG: self.raised_to}
        return {name: size for name, size in given.items() if size is not None}

    def of(self, platform: Platform, runner: Runner) -> str:
        """Size of a dataset: an entry of the platform's sizes, which `check` has looked at."""
        if self.asked is not None:
            return self.asked
        if self.raised_to is None or runner.up_to is None:
            return runner.size
        order = list(platform.sizes)
        return max(runner.size, min(runner.up_to, self.raised_to, key=order.index), key=order.index)

    def check(self, platform: Platform, asked_by: str) -> "SizeChoice":
        """Itself. asked_by: what names the size, for people. Raises PermanentError for one that isn't allowed."""
        for size in (self.asked, self.raised_to):
            if size is not None:
                check_size(platform, size, asked_by)
        return self

    def __str__(self) -> str:
        if self.asked is not None:
            return f"size {self.asked}"
        return f"raised up to size {self.raised_to}" if self.raised_to is not None else "the sizes of the manifests"


MANIFESTS = SizeChoice()
"""Each dataset at the size of its manifest."""


def check_size(platform: Platform, size: str, asked_by: str) -> None:
    """Raises PermanentError for a size that doesn't exist, or that nobody may run."""
    if size == NEEDS_APPROVAL:
        raise PermanentError(f"{asked_by}: {REFUSED}. Allowed: {', '.join(allowed_sizes(platform))}.")
    if size not in platform.sizes:
        raise PermanentError(f"{asked_by}: unknown size {size!r}; {hint(size, allowed_sizes(platform))}.")


def allowed_sizes(platform: Platform) -> list[str]:
    """Those that may be asked for, from small to large."""
    return [size for size in platform.sizes if size != NEEDS_APPROVAL]
