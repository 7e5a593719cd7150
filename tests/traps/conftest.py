"""The servers of the end-to-end tests, and the daemon's code inside the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import aioboto3
import pytest
from e2e.conftest import aws, clickhouse, place
from e2e.place import Place

from .stage import Stage

__all__ = ["aws", "clickhouse", "place", "stage"]

_Session = aioboto3.Session


@cache
def _session(**options: str) -> object:
    return _Session(**options)


@pytest.fixture
def stage(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stream of its own and a database of its own; lives are ended by the test."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    # A session reads its service models from disk, which takes longer than most tests.
    monkeypatch.setattr(aioboto3, "Session", _session)
    yield Stage(place)
