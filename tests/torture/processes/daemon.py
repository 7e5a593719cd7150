"""The daemon as its operator sees it. It must not end by itself, but for what AWS shows just now."""

from __future__ import annotations

import signal

from support.processes.harness import Daemon

from ..world import DRAIN_SECONDS, World

DRAIN_FAILED = "draining within"
RESTARTED = "daemon: started again once AWS had what it missed"
NOT_THERE = ("its changes do not go to stream", "no such table")
"""What a daemon says that ends with exit 1 for a table, or its streaming destination, that is not there yet."""


def logged(daemon: Daemon) -> str:
    """All that a daemon has written, and those of its configuration before it."""
    return daemon.log.read_text(errors="replace") if daemon.log.exists() else ""


def check_alive(world: World) -> None:
    """The daemon never ends by itself, but where it may: then it is started again."""
    supervise(world)
    assert world.daemon.running, f"the daemon ended by itself: {world.daemon.tail()}"


def supervise(world: World) -> None:
    """Start the daemon again if it met a table, or a streaming destination, that was not there: exit 1 asks for it."""
    if world.may_end and not world.daemon.running:
        said = logged(world.daemon).splitlines()[-5:]
        code = world.daemon.wait()
        if code == 1 and any(words in line for words in NOT_THERE for line in said):
            world.counted[RESTARTED] += 1
            world.daemon.start()
            world.daemon.wait_ready()


def terminate(world: World) -> bool:
    """SIGTERM: the daemon drains, or says that it could not in time, and ends. Return whether it drained."""
    check_alive(world)
    daemon = world.daemon
    listening = daemon.get("/livez")[0] != 0
    daemon.signal(signal.SIGTERM)
    try:
        code = daemon.wait(DRAIN_SECONDS + 15.0)
    except AssertionError:
        daemon.signal(signal.SIGUSR1)  # see task_dump/sitecustomize.py
        world.sleep(1.0)
        raise AssertionError(f"it does not end after SIGTERM; its tasks are in {daemon.log}") from None
    if code == -signal.SIGTERM and not listening:
        return False  # it had not come as far as to listen to signals
    assert code == 0 or (code == 1 and DRAIN_FAILED in daemon.tail()), f"SIGTERM: exit {code}: {daemon.tail()}"
    return code == 0
