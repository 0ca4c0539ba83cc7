"""What a process held at most. Not ru_maxrss: a new process takes over that of the one which started it."""

from pathlib import Path


def peak_mb() -> int:
    """MB of this process at its highest, since its program began (VmHWM of Linux)."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024
