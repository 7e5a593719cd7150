"""Durability proof: before anything more is saved, what was saved last is still there, on the server that took it.

A server that was restored, or promoted, or lost power, answers like any other.
"""

from __future__ import annotations

from collections.abc import Collection

from dyncdc.errors import FatalError
from dyncdc.model.checkpoints import Checkpoint, Server
from dyncdc.model.shards import ShardId, SourceId
from dyncdc.pipeline.ports.checkpoints import CheckpointStore
from dyncdc.pipeline.recovery.rewind import is_restarted
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth


class WentBackError(FatalError):
    """ClickHouse may have lost what it had acknowledged. Another session reads on from what it has now."""


class DurabilityProof:
    """What one session knows of the server that holds its checkpoints."""

    def __init__(self, store: CheckpointStore, metrics: Metrics, health: TaskHealth, member: int = 0) -> None:
        self._store = store
        self._member = member
        self._metrics = metrics
        self._health = health
        self._proven_over = -1
        """How many connections there had been at the last proof."""
        self.server = Server()
        """The one that answered at the start of the session."""
        self.last: Checkpoint | None = None
        """One row of the last save that was acknowledged."""

    async def begin(self) -> Server:
        """Take the server that answers now for ours. Raises RetryableError, FatalError."""
        self.server = await self._store.server()
        return self.server

    async def prove(self, shards: Collection[tuple[SourceId, ShardId]], epoch: int) -> None:
        """Raise WentBackError when our last save may be gone, FatalError when another process has one of these shards.

        Raises RetryableError.
        """
        connects = self._store.connects
        proof = await self._store.proof(shards, self.last)
        if proof.newest_epoch > epoch:
            raise FatalError(
                f"saving checkpoints: another dyncdc process with this pipeline name took over"
                f" (its epoch {proof.newest_epoch}, ours {epoch})",
                hint="run one process per member of a pipeline, or give this one another `pipeline` name",
            )
        if not proof.held:
            await self._rolled_back()
        if is_restarted(self.server, proof.started_at):
            raise self._noticed("restarted", "it was started again, and may have lost what it acknowledged last")
        self._proven_over = connects

    async def prove_connection(self, epoch: int) -> None:
        """Prove only after a new connection: over the same one nothing goes back."""
        if self._store.connects != self._proven_over:
            await self.prove((), epoch)

    async def _rolled_back(self) -> None:
        """Raise WentBackError, once it is durable: no restart of the server tells the next process. RetryableError.

        Where the table for that is gone as well, the session that makes it again does this first.
        """
        what = "the last checkpoints that it has acknowledged are gone"
        try:
            await self._store.note_rollback(self._member)
        except FatalError as error:
            raise self._noticed("rolled_back", what) from error
        raise self._noticed("rolled_back", what)

    def _noticed(self, reason: str, what: str) -> WentBackError:
        self._metrics.went_back(reason)
        if reason == "rolled_back":
            self._health.log_error("ClickHouse went back", reason=what)
        return WentBackError(
            f"using ClickHouse: {what}", hint="reading goes on from what it has now; nothing is to be done"
        )
