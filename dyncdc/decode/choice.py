"""Which decoders there are on this machine: compiled ones, or the exact ones alone where no compiler was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .decoders import SnapshotDecoder, StreamDecoder
from .plan import TablePlan

try:
    from .compiled.decoders import CompiledSnapshotDecoder, CompiledStreamDecoder
except ImportError:  # pip found no C compiler: everything works, at ten times the CPU time
    _STREAM: type[StreamDecoder] = StreamDecoder
    _SNAPSHOT: type[SnapshotDecoder] = SnapshotDecoder
else:
    _STREAM, _SNAPSHOT = CompiledStreamDecoder, CompiledSnapshotDecoder

IS_COMPILED: Final = _STREAM is not StreamDecoder


def stream_decoder(plans: Mapping[str, TablePlan], *, pipeline: str) -> StreamDecoder:
    """Return a decoder of change records. ``plans`` may be exchanged between two sub-batches, not within one."""
    return _STREAM(plans, pipeline=pipeline)


def snapshot_decoder(plan: TablePlan, version: int, *, pipeline: str) -> SnapshotDecoder:
    """Return a decoder of a snapshot's lines; ``version`` in microseconds."""
    return _SNAPSHOT(plan, version, pipeline=pipeline)
