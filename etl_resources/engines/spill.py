"""Where engines spill to: a folder of its own for each.

Two in one folder write into each other's files, whose names are the same: rows of the other come back, or the process
dies (duckdb 1.5.5, tests/integration/test_engine.py).
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

_LIVING, _NEW = "engines-", "new-"


def spill_folder(home: Path) -> Path:
    """A folder that isn't there yet, for one engine, which makes it when it spills and removes it when it ends."""
    return _of_this_process(home.resolve() / "spill") / uuid4().hex


@cache
def _of_this_process(spill: Path) -> Path:
    """A folder that is locked while this process lives, in place of those whose processes were killed."""
    spill.mkdir(parents=True, exist_ok=True)
    for left in spill.glob(f"{_LIVING}*"):
        _remove_if_dead(left)
    made = Path(tempfile.mkdtemp(prefix=_NEW, dir=spill))
    _lock(made)
    return made.rename(spill / f"{_LIVING}{made.name.removeprefix(_NEW)}")


def _remove_if_dead(folder: Path) -> None:
    with suppress(OSError):  # its process lives, or somebody else is removing it
        lock = _lock(folder)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _lock(folder: Path) -> int:
    """The lock is held until its descriptor is closed, at the latest by the end of the process."""
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock
