"""Worker: one process of a supervisor."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dyncdc.pipeline.members.assignment import Assignment


@dataclass(slots=True)
class Worker:
    """One worker, as often as it is started."""

    number: int
    assignment: Assignment
    socket: Path
    process: asyncio.subprocess.Process | None = None
    absence: str = "not started yet"

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it runs."""
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)
