"""Moments for people and for machines to read, always in UTC, from seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp(seconds: float) -> str:
    """For sentences: ``2026-01-31 12:00:00 UTC``."""
    return f"{_moment(seconds):%Y-%m-%d %H:%M:%S} UTC"


def short_timestamp(seconds: float) -> str:
    """For the columns of a table: ``2026-01-31 12:00:00Z``."""
    return f"{_moment(seconds):%Y-%m-%d %H:%M:%S}Z"


def iso_timestamp(seconds: float) -> str:
    """ISO 8601 with microseconds: ``2026-01-31T12:00:00.250000Z``."""
    return f"{_moment(seconds):%Y-%m-%dT%H:%M:%S.%f}Z"


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
