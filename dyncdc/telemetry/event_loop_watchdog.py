"""Reports where the event loop stands still, from a thread that needs neither the loop nor the interpreter."""

from __future__ import annotations

import asyncio
import faulthandler

STDERR = 2
LOOKS = 4
"""How often the alarm is set again within its time."""


async def watch_event_loop(seconds: float) -> None:
    """Write the stack of every thread to stderr, once, when the loop has not turned for ``seconds``. Until cancelled.

    File, line and function of each frame, never a value. They show why a process hung that was killed for it.
    Source: faulthandler.dump_traceback_later.
    """
    try:
        while True:
            faulthandler.dump_traceback_later(seconds, file=STDERR)
            await asyncio.sleep(seconds / LOOKS)
    finally:
        faulthandler.cancel_dump_traceback_later()
