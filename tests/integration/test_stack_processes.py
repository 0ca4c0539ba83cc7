"""Processes that the stack starts: they are found again, told from strangers, and stopped."""

import os
from pathlib import Path

import psutil

from etl_resources.stack.processes import Command, is_alive, main_process, marked, recorded, spawn, stop
from etl_resources.stack.state import ServerRecord, StackState, save


def test_a_process_is_recognised_by_record_and_by_mark(tmp_path: Path) -> None:
    """A pid alone may belong to a stranger; a record may be missing after a kill, or be copied with its folder."""
    home, copy = tmp_path / "home", tmp_path / "copy"
    home.mkdir()
    command = Command(["sleep", "60"], tmp_path)
    process = spawn(command, home=home, server="s3", log=home / "logs" / "s3.log")
    record = ServerRecord(pid=process.pid, create_time=process.create_time())
    try:
        assert recorded(record, home) == process
        assert recorded(record.model_copy(update={"create_time": 1.0}), home) is None
        assert marked(home, "s3") == [process]
        assert not marked(home, "postgres")
        assert not marked(copy, "s3")
        assert main_process(ServerRecord(), home, "s3", command.argv) == process
        assert main_process(ServerRecord(), home, "s3", ["sleep", "61"]) is None
        assert recorded(record, copy) == process, "a moved home still finds its servers"
        save(home, StackState(servers={"s3": record}))
        assert recorded(record, copy) is None, "a copied home doesn't own the original's servers"
        assert os.getsid(process.pid) != os.getsid(0), "Ctrl-C in the terminal would reach it"
    finally:
        stop([process], gentle=psutil.signal.SIGTERM, grace_s=5)
    assert not is_alive(process)
    assert recorded(record, home) is None


def test_what_ignores_the_gentle_signal_is_killed(tmp_path: Path) -> None:
    """SeaweedFS waits for streams between its own parts; `down` doesn't wait for it."""
    command = Command(["sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60"], tmp_path)
    process = spawn(command, home=tmp_path, server="s3", log=tmp_path / "logs" / "s3.log")
    stop([process], gentle=psutil.signal.SIGTERM, grace_s=0.2)
    assert not is_alive(process)
    assert not marked(tmp_path, "s3")
