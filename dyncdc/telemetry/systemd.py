"""systemd's notification protocol: readiness, stopping and the watchdog. Does nothing when systemd does not listen.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def notify(state: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send a state to systemd; return whether it was sent. Never blocks, never raises: supervision is not our task."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
            sender.connect(address)
            sender.send(state.encode())
    except OSError:
        return False
    return True


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """Within how many seconds systemd wants to hear from this process, or None when it does not watch it."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) > 0 else None


async def feed_watchdog(environ: Mapping[str, str] = os.environ) -> None:
    """Tell systemd, forever, that the event loop turns; return at once when it does not watch.

    Says nothing about health on purpose: an outage of ClickHouse must not restart the daemon.
    """
    seconds = watchdog_seconds(environ)
    while seconds is not None:
        notify(WATCHDOG, environ)
        await asyncio.sleep(seconds / 3)
