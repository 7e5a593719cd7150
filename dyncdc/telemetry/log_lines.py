"""How log lines leave the process. Writing never raises and hardly waits: what cannot be written is counted."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import TextIO

PIPE_BYTES = 4096
"""A pipe that has room takes so much without waiting. Source: pipe(7), PIPE_BUF."""

WAIT_MILLISECONDS = 200
"""How long a full pipe is waited for, once: its reader may be slow. After that only when it has room."""

_FAILURES = (OSError, ValueError)
"""A full disk, a pipe that no one reads any more; a stream that was closed."""


class _Lost:
    lines = 0


def lost_lines() -> int:
    """How many lines of this process could not be written."""
    return _Lost.lines


class LogLines:
    """A stream to write whole lines to, as ``structlog`` and ``logging`` want one.

    The disk under stderr may be full, its reader gone or frozen: none of that may end or stop what is logged about.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._descriptor: int | None = None
        with suppress(*_FAILURES):  # text in memory has none
            self._descriptor = stream.fileno()
        self._waits = True
        self._torn = False

    def write(self, text: str) -> None:
        """Write whole lines, or count them as lost."""
        try:
            if self._descriptor is None:
                self._stream.write(text)
                self._stream.flush()
            else:
                self._put(self._descriptor, text.encode(errors="replace"))
        except _FAILURES:
            _Lost.lines += text.count("\n") or 1

    def flush(self) -> None:
        """Nothing is ever held back."""

    def _put(self, descriptor: int, data: bytes) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        if self._torn:
            data = b"\n" + data
        written = 0
        try:
            while written < len(data):
                if not poll.poll(WAIT_MILLISECONDS if self._waits else 0):
                    self._waits = False
                    raise BlockingIOError("no one reads")
                written += os.write(descriptor, data[written : written + PIPE_BYTES])
        finally:
            if written:
                self._torn = written < len(data)
        self._waits = True
