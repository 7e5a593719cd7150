"""Where positions become durable."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from dyncdc.model.checkpoints import Checkpoint, Past, PastMark, Proof, Rollback, Server
from dyncdc.model.shards import ShardId, SourceId


class CheckpointStore(Protocol):
    """``dyncdc_checkpoints``: append-only."""

    async def load(self) -> Sequence[Checkpoint]:
        """Every shard's winning row of this pipeline, read consistently: greatest rank, ``finished`` sticky."""

    async def save(self, rows: Sequence[Checkpoint]) -> None:
        """Append rows in one insert. Raises RetryableError, FatalError."""

    async def refresh(self, sources: Collection[SourceId]) -> Sequence[Checkpoint]:
        """As ``load``, of these sources only and without waiting for a replica that lags: perhaps behind, never ahead.

        Raises RetryableError, FatalError.
        """

    @property
    def connects(self) -> int:
        """How often a connection was made: over a new one another server may answer, or an older state of one."""

    async def proof(self, shards: Collection[tuple[SourceId, ShardId]], last: Checkpoint | None) -> Proof:
        """The greatest epoch of these shards, and whether ``last``, one row of our last save, is still there.

        One statement, unless a replica lags: that is waited for. Raises RetryableError, FatalError.
        """

    async def server(self) -> Server:
        """The server that answers."""

    async def remember(self, marks: Sequence[PastMark]) -> None:
        """Append to ``dyncdc_checkpoint_history``, in one insert. The store fills in ``server`` and ``saved_at``.

        Raises RetryableError, FatalError.
        """

    async def past(self, server: Server, rows: int) -> Past:
        """The newest ``rows`` past marks of each shard, in the order of their epochs and ordinals.

        None that is older than a week, so that what is shown of one shard is no older than what is shown of all.
        """

    async def note_rollback(self, member: int) -> None:
        """Append that what this member had been acknowledged is gone, noticed now.

        Raises RetryableError, FatalError.
        """

    async def rollbacks(self) -> Sequence[Rollback]:
        """Those of all members that are no older than the past marks are kept. Raises RetryableError, FatalError."""

    async def server_time(self) -> float:
        """Seconds since the epoch by the store's own clock."""
