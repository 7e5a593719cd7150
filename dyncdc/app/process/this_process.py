"""Which process this is, and whether another one of this machine is gone: Linux's /proc tells both."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path

from dyncdc.model.members import Process

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_STATE, _BEGAN = 3 - 3, 22 - 3
"""Fields of /proc/PID/stat behind the name, which may hold anything. Source: proc_pid_stat(5)."""


def this_process() -> Process:
    """This process: its boot, its process namespace, its number, and when it began.

    The mark is empty where one of these is not known: it would be that of a process elsewhere, too.
    """
    pid = os.getpid()
    place, began = _place(), _began(pid)
    return Process(platform.node(), f"{place}/{pid}/{began}" if place and began else "")


def is_gone(mark: str) -> bool:
    """Whether the process of a mark certainly runs no more; False of one that cannot be seen from here."""
    place, pid, began = ("", "", *mark.rsplit("/", 2))[-3:]
    if not place or place != _place() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it is there, and someone else's
    return _began(int(pid)) not in (began, None)


def _place() -> str:
    """Where a number means a process: this boot of this kernel, this namespace; "" where that is not known."""
    with suppress(OSError):
        return f"{_BOOT.read_text().strip()}/{os.readlink('/proc/self/ns/pid')}"
    return ""


def _began(pid: int) -> str | None:
    """When a process began, in ticks since the boot; "" when it has ended and waits for its parent; None: unknown."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if fields[_STATE] in "ZX" else fields[_BEGAN]
    return None
