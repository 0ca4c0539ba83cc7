"""A command with what all of its processes took: seconds, peak memory, bytes that it had spilled at once."""

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.05


@dataclass(frozen=True)
class Taken:
    """Of one command and its children."""

    seconds: float
    peak_mb: int
    """Most that the highest resident sizes (VmHWM) of processes that lived at once add up to: never too little."""
    peak_mb_of: Mapping[str, int]
    """The same by program, each at its own time: java, python."""
    spilled_mb: int
    """Most that the spill folder held."""


def measured(command: Sequence[str], environment: Mapping[str, str], spill: Path, log: Path, limit_s: int) -> Taken:
    """Run it to its end. Raises SystemExit with the end of its log when it fails."""
    peaks: dict[str, int] = {}
    done = threading.Event()
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=dict(environment), stdout=output, stderr=subprocess.STDOUT)

        def watch() -> None:
            while not done.wait(POLL_S):
                found = _resident_mb(process.pid) | {"spill": _size_mb(spill)}
                for name, mb in found.items():
                    peaks[name] = max(peaks.get(name, 0), mb)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            code = process.wait(limit_s)
        finally:
            seconds = time.monotonic() - started
            done.set()
            watcher.join()
            if process.poll() is None:
                process.kill()
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}:\n{log.read_text()[-3000:]}")
    spilled, whole = peaks.pop("spill", 0), peaks.pop("all", 0)
    return Taken(round(seconds, 2), whole, peaks, spilled)


def _resident_mb(root: int) -> dict[str, int]:
    """Program → sum of VmHWM over the living processes of a tree; "all" for all of them."""
    found: dict[str, int] = {}
    for pid in _tree(root):
        with suppress(OSError, StopIteration):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            name = _value(lines, "Name:").rstrip("0123456789.")
            mb = int(_value(lines, "VmHWM:").split()[0]) // 1024
            for of in ("all", name):
                found[of] = found.get(of, 0) + mb
    return found


def _value(lines: Sequence[str], key: str) -> str:
    return next(line for line in lines if line.startswith(key)).removeprefix(key).strip()


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        for task in _listed(Path(f"/proc/{pid}/task")):
            with suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def _listed(folder: Path) -> list[Path]:
    with suppress(OSError):
        return list(folder.iterdir())
    return []


def _size_mb(folder: Path) -> int:
    size: Callable[[Path], int] = lambda path: path.stat().st_size  # noqa: E731
    total = 0
    with suppress(OSError):
        for path in folder.rglob("*"):
            with suppress(OSError):
                total += size(path)
    return total // 1_000_000
