"""Bugs planted one at a time where names change hands: lives under which that happens must notice each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dyncdc.model.gaps import Gap
from dyncdc.pipeline.destinations import binding_changes, destination_monitor
from dyncdc.pipeline.destinations.streaming_monitor import StreamingMonitor
from dyncdc.pipeline.snapshot.sweep import SnapshotSweep


def _missed_by_nothing(patch: pytest.MonkeyPatch, reason: str) -> None:
    def missed_by(*arguments: Any) -> Gap | None:
        gap = binding_changes.missed_by(*arguments)
        return None if gap is not None and gap.reason == reason else gap

    patch.setattr(destination_monitor, "missed_by", missed_by)


def destination_that_comes_back_is_complete(patch: pytest.MonkeyPatch) -> None:
    """A table that was loaded once has all, whatever went to another of its name since."""
    _missed_by_nothing(patch, binding_changes.WAS_ELSEWHERE)


def table_made_again_is_the_same(patch: pytest.MonkeyPatch) -> None:
    """A DynamoDB table is known by its name alone."""
    _missed_by_nothing(patch, binding_changes.MADE_ANEW)


def table_made_again_waits_for_a_restart(patch: pytest.MonkeyPatch) -> None:
    """A running session does not look which table it is."""
    original = StreamingMonitor.__init__

    def blind(self: StreamingMonitor, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options | {"table_id": ""})

    patch.setattr(StreamingMonitor, "__init__", blind)


def emptied_destination_is_full(patch: pytest.MonkeyPatch) -> None:
    """What was acknowledged is there forever."""
    patch.setattr(destination_monitor, "is_emptied", lambda held, standing: False)


def nobody_is_asked(patch: pytest.MonkeyPatch) -> None:
    """A snapshot that holds next to nothing of a destination marks all of it as deleted."""

    async def allowed(*_: Any) -> bool:
        return True

    patch.setattr(SnapshotSweep, "_allowed", allowed)


Plant = Callable[[pytest.MonkeyPatch], None]
ALL: tuple[Plant, ...] = (
    destination_that_comes_back_is_complete,
    table_made_again_is_the_same,
    table_made_again_waits_for_a_restart,
    emptied_destination_is_full,
    nobody_is_asked,
)
