"""Bugs planted one at a time where streaming destinations are watched: being off for a moment must notice each."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dyncdc.pipeline.destinations.streaming_monitor import StreamingMonitor
from dyncdc.pipeline.recovery.recovery import Recovery
from simulation.mutants.pipeline import Plant


def off_within_a_minute_ignored(patch: pytest.MonkeyPatch) -> None:
    """Only a destination that stays off for a minute was switched off; else it was a hiccup of AWS."""
    switched_off = StreamingMonitor._switched_off
    look = StreamingMonitor._look
    since: dict[int, float] = {}

    async def patient(self: StreamingMonitor) -> None:
        now = asyncio.get_running_loop().time()
        if now - since.setdefault(id(self), now) >= 60.0:
            await switched_off(self)

    async def looked(self: StreamingMonitor, task: Any) -> None:
        before = self._active_at
        await look(self, task)
        if self._active_at != before:
            since.pop(id(self), None)

    patch.setattr(StreamingMonitor, "_switched_off", patient)
    patch.setattr(StreamingMonitor, "_look", looked)


def looked_at_once_a_minute(patch: pytest.MonkeyPatch) -> None:
    """The destination is looked at once a minute."""
    begin = StreamingMonitor.__init__

    def init(self: StreamingMonitor, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named | {"pause_seconds": 60.0})

    patch.setattr(StreamingMonitor, "__init__", init)


def gap_only_once_it_is_on_again(patch: pytest.MonkeyPatch) -> None:
    """The gap is written when its end is known: who is killed before takes it along."""

    async def switched_off(self: StreamingMonitor) -> None:
        self._active_at = self._active_at or self._recovery.covered(self._table)
        self._off = bool(self._active_at)

    patch.setattr(StreamingMonitor, "_switched_off", switched_off)


def gap_begins_when_it_was_seen_off(patch: pytest.MonkeyPatch) -> None:
    """What was missed before someone looked is in no gap."""
    missed = StreamingMonitor._missed_until

    async def late(self: StreamingMonitor, instant: float) -> None:
        if not self._seen_off:  # type: ignore[attr-defined]
            self._active_at = self._source.server_time
            self._seen_off = True  # type: ignore[attr-defined]
        await missed(self, max(instant, self._active_at + 1.0))

    patch.setattr(StreamingMonitor, "_seen_off", False, raising=False)
    patch.setattr(StreamingMonitor, "_missed_until", late)


def off_at_a_start_was_never_on(patch: pytest.MonkeyPatch) -> None:
    """A session knows nothing of what former ones have seen delivered."""
    patch.setattr(Recovery, "covered", lambda self, table: 0.0)


ALL: tuple[Plant, ...] = (
    off_within_a_minute_ignored,
    looked_at_once_a_minute,
    gap_only_once_it_is_on_again,
    gap_begins_when_it_was_seen_off,
    off_at_a_start_was_never_on,
)
