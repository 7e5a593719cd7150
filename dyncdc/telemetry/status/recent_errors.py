"""The recent warnings and errors of the log, each kind once, with how often it came. Bounded.

Logs hold no values, keys or credentials, so neither does this.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

from dyncdc.telemetry.task_health import MOVED_AGAIN, STUCK

from .model import MOST_ERRORS, RecentError

LONGEST = 600
"""Characters of a text that are kept."""

_PLACES = ("task", "table", "shard", "stage", "worker")
_KNOWN = {*_PLACES, "event", "level", "error", "hint", "error_class", "repeats", "timestamp", "pause_seconds", "member"}

FREE = "task stuck, moves again"


class RecentErrors:
    """A structlog processor that keeps what it sees and passes everything on."""

    def __init__(self, most: int = MOST_ERRORS, clock: Callable[[], float] = time.time) -> None:
        self._most = most
        self._clock = clock
        self._kept: OrderedDict[tuple[str, ...], RecentError] = OrderedDict()

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Keep a warning or an error; of a stuck task that moves again, that it does."""
        if event.get("event") == MOVED_AGAIN:
            self._freed(str(event.get("task", "")))
        if event.get("level") in ("warning", "error", "critical"):
            self.add(event)
        return event

    def add(self, event: Mapping[str, object]) -> None:
        """Keep one; the one that came least recently makes room."""
        where = ", ".join(
            f"{'' if name == 'task' else f'{name} '}{event[name]}" for name in _PLACES if event.get(name) is not None
        )
        what = str(event.get("event", ""))
        error = str(event.get("error") or event.get("reason") or _rest(event))
        key = what, where, str(event.get("error_class", "")), "" if event.get("error") else error
        now, repeats = self._clock(), event.get("repeats")
        more = 1 + (repeats if isinstance(repeats, int) else 0)
        kept = self._kept.pop(key, None)
        self._kept[key] = RecentError(
            level=str(event.get("level", "error")),
            event=what,
            where=_clip(where),
            error=_clip(error),
            hint=_clip(str(event.get("hint") or "")),
            count=more + (kept.count if kept else 0),
            first_at=kept.first_at if kept else now,
            last_at=now,
        )
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def _freed(self, task: str) -> None:
        for key, kept in self._kept.items():
            if kept.event == STUCK and kept.where == task:
                self._kept[key] = msgspec.structs.replace(kept, event=FREE, level="warning", hint="")

    def recent(self) -> list[RecentError]:
        """What is kept, the latest first."""
        return list(reversed(self._kept.values()))

    def listen(self) -> None:
        """Hear everything that is logged from now on, before repeats are left out."""
        processors = list(structlog.get_config()["processors"])
        levels = [place for place, found in enumerate(processors) if found is structlog.processors.add_log_level]
        processors.insert(levels[0] + 1 if levels else 0, self)
        structlog.configure(processors=processors)


def _rest(event: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_words(value)}" for name, value in event.items() if name not in _KNOWN)


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _clip(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
