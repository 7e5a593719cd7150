"""Logs: structlog to stderr, colours on a terminal and JSON otherwise. Sets up; says nothing itself.

Libraries that use the standard library's logging are heard from WARNING on, whatever the level: their debug output
holds item values and signatures. Logging never raises, whatever a library hands over and wherever the lines go.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from .log_lines import LogLines
from .repeat_limiter import RepeatLimiter

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_REPEAT_KEYS = ("event", "task", "shard", "table", "stage", "error_class", "error_code")


def configure_logging(
    level: str = "info", format: str = "auto", *, stream: TextIO | None = None, limiter: RepeatLimiter | None = None
) -> None:
    """Send all logs of this process to ``stream`` (default: stderr).

    ``level``: debug, info, warning or error. ``format``: auto, json or console. Warnings and errors that repeat are
    written once per 10 s with ``repeats``.
    """
    stream = sys.stderr if stream is None else stream
    limiter = limiter or RepeatLimiter()
    console = format == "console" or (format == "auto" and stream.isatty())
    first: list[Processor] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level]
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console)
    renderers: list[Processor] = (
        # The default shows the local variables of each frame: records, keys, credentials.
        [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_dumps)]
    )
    lines = LogLines(stream)
    structlog.configure(
        processors=[*first, LimitRepeats(limiter), stamp, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=lines),  # type: ignore[arg-type]  # it writes, no more
        cache_logger_on_first_use=False,
    )
    handler = _ForeignHandler(lines)
    handler.addFilter(LimitForeignRepeats(limiter))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *first, _add_repeats, stamp],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, _LEVELS[level]))


def set_log_level(level: str) -> None:
    """Change the level of all logs from here on; nothing else about them."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]))
    logging.getLogger().setLevel(max(logging.WARNING, _LEVELS[level]))


class LimitRepeats:
    """structlog processor: leave out repeats of a warning or error; what passes says how many it stands for."""

    def __init__(self, limiter: RepeatLimiter) -> None:
        self._limiter = limiter

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Raise DropEvent for a repeat. Events that count their own repeats pass."""
        if event.get("level") not in ("warning", "error", "critical") or "repeats" in event:
            return event
        repeats = self._limiter.admit(tuple(str(event.get(key)) for key in _REPEAT_KEYS))
        if repeats is None:
            raise structlog.DropEvent
        if repeats:
            event["repeats"] = repeats
        return event


class LimitForeignRepeats(logging.Filter):
    """The same for what libraries say. A filter, as the standard library's way of leaving a record out.

    structlog's DropEvent is a BaseException, which would pass through the handler and end the task that logged.
    """

    def __init__(self, limiter: RepeatLimiter) -> None:
        super().__init__()
        self._limiter = limiter

    def filter(self, record: logging.LogRecord) -> bool:
        """Leave out repeats of one text of one logger, whatever is put into it."""
        record.repeats = 0
        if record.levelno < logging.WARNING:
            return True
        text = record.msg if isinstance(record.msg, str) else type(record.msg)
        repeats = self._limiter.admit((record.name, record.levelno, text))
        record.repeats = repeats
        return repeats is not None


def _add_repeats(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    repeats = event["_record"].repeats
    if repeats:
        event["repeats"] = repeats
    return event


class _ForeignHandler(logging.StreamHandler[LogLines]):  # all that it does with it is to write
    def handleError(self, record: logging.LogRecord) -> None:
        """Say that a library's record cannot be shown; the standard library would write a traceback, with values."""
        self.stream.write(f"dyncdc: a warning of {record.name} cannot be shown\n")


def _dumps(event: MutableMapping[str, Any], **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
