"""Positions of a Kinesis shard: what the configured start is, and which iterator follows a position. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from dyncdc.errors import ConfigError, FatalError
from dyncdc.model.shards import HORIZON, Position

AT_TIMESTAMP = "AT_TIMESTAMP:"


def start_from(start: str | datetime, now: float) -> Position:
    """The configured start as a position. LATEST becomes the time ``now``, so that children of a reshard have no gap.

    Raises ConfigError for a text that is neither a keyword nor an RFC 3339 time, and for a time to come.
    """
    if start == HORIZON:
        return HORIZON
    if start == "LATEST":
        return Position(f"{AT_TIMESTAMP}{now:.3f}")
    try:
        at = datetime.fromisoformat(start) if isinstance(start, str) else start
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ConfigError(
            f"reading kinesis.start: {start!s} is not a start",
            hint='use "TRIM_HORIZON", "LATEST" or an RFC 3339 time such as "2026-01-31T12:00:00Z"',
        )
    if at.timestamp() > now:
        raise ConfigError(
            f"reading kinesis.start: {at.isoformat()} is in the future", hint='use "LATEST" to start from now on'
        )
    return Position(f"{AT_TIMESTAMP}{at.timestamp():.3f}")


def iterator_request(position: Position) -> dict[str, object]:
    """GetShardIterator's parameters for what follows a position. Raises FatalError for any other text."""
    if position == HORIZON:
        return {"ShardIteratorType": "TRIM_HORIZON"}
    if position.isascii() and position.isdecimal():
        return {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": position}
    try:
        seconds = float(position.removeprefix(AT_TIMESTAMP)) if position.startswith(AT_TIMESTAMP) else math.nan
        at = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise FatalError(
            f"resuming a shard: {position[:80]!r} is not a position of a stream",
            hint="dyncdc_checkpoints was edited, or written by a newer version",
        ) from error
    return {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": at}


def in_words(position: Position) -> str:
    """A position as a person would say it."""
    if position == HORIZON:
        return "from its oldest record"
    if position.startswith(AT_TIMESTAMP):
        return f"from time {position.removeprefix(AT_TIMESTAMP)}"
    return f"after sequence number {position}"
