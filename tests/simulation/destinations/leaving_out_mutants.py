"""Bugs in how tables are left out that can not be used: sessions that leave some out must notice each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dyncdc.pipeline.checkpoint.ledger import ShardLedger
from dyncdc.pipeline.reading.stream_reader import StreamReader
from dyncdc.pipeline.session.services import StreamTask

Plant = Callable[[pytest.MonkeyPatch], None]


def positions_move_past_what_was_left_out(patch: pytest.MonkeyPatch) -> None:
    """What is left out counts as done."""
    original = ShardLedger.track

    def track(self: ShardLedger, *given: Any, incomplete: bool = False) -> Any:
        return original(self, *given)

    patch.setattr(ShardLedger, "track", track)


def nobody_is_told_what_is_left_out(patch: pytest.MonkeyPatch) -> None:
    """The decoder leaves tables out and the readers do not know."""
    original = StreamReader.__init__

    def blind(self: StreamReader, stream: StreamTask, *arguments: Any) -> None:
        original(self, replace(stream, unusable=()), *arguments)

    patch.setattr(StreamReader, "__init__", blind)


def chunk_without_rows_is_whole(patch: pytest.MonkeyPatch) -> None:
    """Only chunks that also hold rows of other tables keep the position where it is."""
    original = ShardLedger.track

    def track(self: ShardLedger, mark: Any, parts: int, *given: Any, incomplete: bool = False) -> Any:
        return original(self, mark, parts, *given, incomplete=incomplete and parts > 0)

    patch.setattr(ShardLedger, "track", track)


ALL: tuple[Plant, ...] = (
    positions_move_past_what_was_left_out,
    nobody_is_told_what_is_left_out,
    chunk_without_rows_is_whole,
)
