"""Free TCP ports on loopback."""

import random
import socket
import time

from etl_resources.errors import TransientError

LOOPBACK = "127.0.0.1"
_RANGE = range(15_000, 30_000)
"""Below the ephemeral range of Linux (32768), where an outgoing connection could take a remembered port."""
_TRIES = 500
_FREED_S, _POLL_S = 1.0, 0.05


def is_free(port: int) -> bool:
    """True when a server could listen on the port now. A finished connection in TIME_WAIT doesn't count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose(names: tuple[str, ...], preferred: dict[str, int], avoid: set[int]) -> dict[str, int]:
    """A distinct free port per name, the preferred ones where all of them are free, never one of `avoid`.

    The preferred ones get a moment: a server that was stopped frees them when its last thread has ended.
    Raises TransientError when none can be found.
    """
    deadline = time.monotonic() + _FREED_S
    while set(preferred) == set(names):
        if all(is_free(port) for port in preferred.values()):
            return preferred
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    chosen: dict[str, int] = {}
    for _ in range(_TRIES):
        if len(chosen) == len(names):
            return chosen
        port = random.choice(_RANGE)  # noqa: S311  (spreads stacks over the range; secrecy isn't needed)
        if port not in avoid and port not in chosen.values() and is_free(port):
            chosen[names[len(chosen)]] = port
    raise TransientError(
        f"No free TCP port between {_RANGE.start} and {_RANGE.stop}. Stop what uses them, then run again."
    )
