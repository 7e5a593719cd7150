"""Where snapshots come from, and where their states are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dyncdc.model.shards import SourceId
from dyncdc.model.snapshots import Export, Snapshot

from .source import Source


class SnapshotStore(Protocol):
    """``dyncdc_snapshots``."""

    async def load(self) -> Sequence[Snapshot]:
        """The newest row of every snapshot of this pipeline, oldest snapshot first."""

    async def save(self, snapshot: Snapshot) -> None:
        """Append the snapshot's new state."""

    async def record_gap(self, table: str, source: str, begin: float, end: float) -> None:
        """Append to ``dyncdc_gaps``: changes of ``table`` between the two instants (seconds) may be missing."""


class Origin(Protocol):
    """The source side of one table's snapshot."""

    async def covered_at(self) -> float | None:
        """Server time (seconds) of an answer that showed the table's streaming destination ACTIVE, else None."""

    async def identity(self) -> str:
        """What tells the table from another one of its name, "" if nothing does. Raises ConfigError if it is gone."""

    async def request_export(self, token: str) -> Export:
        """Start an export; the same token never starts a second one."""

    async def describe_export(self, arn: str) -> Export:
        """The export's present state."""

    async def open_export(self, export: Export, source: SourceId) -> Source:
        """Read and verify the manifests; the answer's shards are its data files, its id is ``source``.

        Raises CorruptSnapshotError when a manifest does not match its checksum or the counts disagree.
        """
