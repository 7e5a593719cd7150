"""Signals into events: the first asks for a drain, the second cuts it short."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stop:
    """What a supervisor or a person has asked for. Handlers only set events."""

    draining: asyncio.Event = field(default_factory=asyncio.Event)
    cut: asyncio.Event = field(default_factory=asyncio.Event)
    signal_number: int = 0

    def listen(self) -> None:
        """Take SIGTERM and SIGINT over. Only in the main thread."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received, number)

    def _received(self, number: int) -> None:
        self.signal_number = number
        (self.cut if self.draining.is_set() else self.draining).set()
