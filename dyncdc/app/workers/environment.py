"""What a worker learns from its supervisor by its environment, and what of the supervisor's own it must not see."""

from __future__ import annotations

import ctypes
import os
import signal

from dyncdc.errors import FatalError

SUPERVISOR = "DYNCDC_SUPERVISOR"
"""Environment variable of a worker: process id of its supervisor."""

RUN_BEGAN = "DYNCDC_RUN_BEGAN"
"""Environment variable of a worker with ``--once``: when the run began, in seconds by ClickHouse's clock."""

OURS = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "DYNCDC_MEMBER")
"""Environment variables that are not for workers: only the supervisor talks to systemd."""

PR_SET_PDEATHSIG = 1


def be_worker() -> float:
    """Die with the supervisor, however that ends; return when its run with ``--once`` began, by ClickHouse's clock.

    In a worker, first of all. Source: prctl(2), PR_SET_PDEATHSIG.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.environ.get(SUPERVISOR, str(os.getppid())) != str(os.getppid()):
        raise FatalError("starting a worker: its supervisor has ended")
    return float(os.environ.get(RUN_BEGAN, "inf"))


def worker_environment(memory_bytes: int, began: float | None) -> dict[str, str]:
    """The environment of a worker. ``began``: when the run with ``--once`` began, None without ``--once``."""
    environment = {name: text for name, text in os.environ.items() if name not in OURS}
    environment |= {SUPERVISOR: str(os.getpid()), "DYNCDC_LIMITS__MEMORY_BYTES": str(memory_bytes)}
    if began is not None:
        environment[RUN_BEGAN] = repr(began)
    return environment
