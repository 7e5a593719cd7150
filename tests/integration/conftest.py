"""The daemon's code inside the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import aioboto3
import pytest
from support.servers.place import Place
from support.stage.stage import Stage

from dyncdc.app.daemon import sessions

STAGE_TIMEOUT_SECONDS = 60

_Session = aioboto3.Session


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole lives between real servers get more time, unless a test names its own."""
    for item in items:
        on_stage = Path(__file__).parent in item.path.parents and "stage" in getattr(item, "fixturenames", ())
        if on_stage and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(STAGE_TIMEOUT_SECONDS))


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
    # A session looks through all that the process holds: of a daemon that is little, of the tests a lot.
    monkeypatch.setattr(sessions, "tune_allocator", lambda budget_bytes: None)
    yield Stage(place)
