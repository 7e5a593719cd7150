"""Which decoders there are on this machine: compiled ones, or the exact ones alone where no compiler was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dyncdc.native.version import demand_version, why_missing

from .decoder import SnapshotDecoder, StreamDecoder
from .table_plan import TablePlan

try:
    from dyncdc.native import _rows

    demand_version(_rows)
    from dyncdc.decode.compiled.decoder import CompiledSnapshotDecoder, CompiledStreamDecoder
except ImportError as error:  # everything works, at ten times the CPU time
    _STREAM: type[StreamDecoder] = StreamDecoder
    _SNAPSHOT: type[SnapshotDecoder] = SnapshotDecoder
    _why = why_missing(error)
else:
    _STREAM, _SNAPSHOT = CompiledStreamDecoder, CompiledSnapshotDecoder
    _why = ""

IS_COMPILED: Final = _STREAM is not StreamDecoder
WHY_EXACT: Final = _why
"""Why there are no compiled decoders, and what to do; "" where there are."""


def stream_decoder(plans: Mapping[str, TablePlan], *, pipeline: str) -> StreamDecoder:
    """Return a decoder of change records. ``plans`` may be exchanged between two sub-batches, not within one."""
    return _STREAM(plans, pipeline=pipeline)


def snapshot_decoder(plan: TablePlan, version: int, *, pipeline: str) -> SnapshotDecoder:
    """Return a decoder of a snapshot's lines; ``version`` in microseconds."""
    return _SNAPSHOT(plan, version, pipeline=pipeline)
