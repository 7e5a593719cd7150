"""Bugs planted into the decoders, one at a time: ``records`` must notice each."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dyncdc.decode import envelope
from dyncdc.decode.decoder import StreamDecoder, SubBatch
from dyncdc.decode.envelope import Change
from dyncdc.decode.table_plan import TablePlan


def version_from_the_clock(patch: pytest.MonkeyPatch) -> None:
    """A row's version is the time at which its record is decoded."""
    patch.setattr(Change, "version", property(lambda self: time.time_ns() // 1000))


def decode_error_swallowed(patch: pytest.MonkeyPatch) -> None:
    """A record that cannot be decoded is counted and skipped."""
    patch.setattr(SubBatch, "reject", lambda self, table, failure, position, raw: None)


def unit_ignored(patch: pytest.MonkeyPatch) -> None:
    """Milliseconds count as microseconds."""
    patch.setattr(envelope, "_SCALE", dict.fromkeys(envelope._SCALE, 1))


def seconds_are_a_time(patch: pytest.MonkeyPatch) -> None:
    """A creation time in seconds becomes a version of 1970."""
    patch.setattr(envelope, "MIN_VERSION", 1)


def order_within_a_millisecond_lost(patch: pytest.MonkeyPatch) -> None:
    """A wide version is made of the time alone."""
    original = TablePlan.version

    def version(self: TablePlan, microseconds: int, position: str = "") -> int:
        return original(self, microseconds)

    patch.setattr(TablePlan, "version", version)


def deletes_skipped(patch: pytest.MonkeyPatch) -> None:
    """A REMOVE has no image, so it has no row."""
    original = StreamDecoder._add_change

    def add_change(self: StreamDecoder, plan: TablePlan, change: Change, position: Any, batch: SubBatch) -> None:
        if change.event_name != "REMOVE":
            original(self, plan, change, position, batch)

    patch.setattr(StreamDecoder, "_add_change", add_change)


def first_error_ends_the_chunk(patch: pytest.MonkeyPatch) -> None:
    """What comes behind a record that cannot be decoded is skipped with it."""
    original = StreamDecoder._decode_record

    def decode_record(self: StreamDecoder, record: bytes, position: Any, batch: SubBatch) -> None:
        if not batch.decoded.dead:
            original(self, record, position, batch)

    patch.setattr(StreamDecoder, "_decode_record", decode_record)


ALL = (
    version_from_the_clock,
    decode_error_swallowed,
    unit_ignored,
    seconds_are_a_time,
    order_within_a_millisecond_lost,
    deletes_skipped,
    first_error_ends_the_chunk,
)
