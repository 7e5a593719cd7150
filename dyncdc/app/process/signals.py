"""Signals into events: the first asks for a drain, the second cuts it short; SIGHUP asks for a reload.

A worker hears of a stop from its supervisor, and perhaps also from a signal to its whole process group; so it
drains however often it is asked, and only SIGQUIT, which no one else sends, cuts it short.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

SIGNAL_BASE: Final = 128
"""Exit code of a process that a signal cut short, less the signal's number: what a shell reports."""


@dataclass(slots=True)
class Stop:
    """What a supervisor or a person has asked for. Handlers only set events."""

    draining: asyncio.Event = field(default_factory=asyncio.Event)
    aborting: asyncio.Event = field(default_factory=asyncio.Event)
    reload: asyncio.Event = field(default_factory=asyncio.Event)
    signal_number: int = 0

    def listen(self, *, worker: bool = False) -> None:
        """Take SIGTERM and SIGINT over, and in a worker SIGQUIT. Only in the main thread."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked if worker else self._received, number)
        if worker:
            loop.add_signal_handler(signal.SIGQUIT, self._cut_short, signal.SIGQUIT)

    def listen_for_reload(self) -> None:
        """Take SIGHUP over. Only in the main thread."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload.set)

    @contextmanager
    def answering_reload(self) -> Iterator[None]:
        """Answer what asks for a reload. Cut short, as by a session that ends, it stays asked for."""
        self.reload.clear()
        try:
            yield
        except asyncio.CancelledError:
            self.reload.set()
            raise

    def _asked(self, number: int) -> None:
        self.signal_number = number
        self.draining.set()

    def _cut_short(self, number: int) -> None:
        self.signal_number = number
        self.draining.set()
        self.aborting.set()

    def _received(self, number: int) -> None:
        self.signal_number = number
        (self.aborting if self.draining.is_set() else self.draining).set()
