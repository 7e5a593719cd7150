"""Session start: what a session begins with, its saved marks, what it reads again, and its epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dyncdc.model.checkpoints import Checkpoint
from dyncdc.pipeline.ports.checkpoints import CheckpointStore
from dyncdc.pipeline.recovery.rewind import Rewind, history_rows, rewind, together
from dyncdc.pipeline.runtime import Instruments

from .ownership import Ownership
from .proof import DurabilityProof
from .shard_progress import ShardProgress


class SessionStart:
    """Loads the checkpoints.

    ``replay_seconds``: what was acknowledged so shortly before a restart of ClickHouse is read again. ``went_back``:
    the session before has seen that ClickHouse went back, restarted or not; its tables may not be of one instant.
    """

    def __init__(
        self,
        store: CheckpointStore,
        proof: DurabilityProof,
        instruments: Instruments,
        *,
        replay_seconds: float = 0.0,
        went_back: bool = False,
    ) -> None:
        self._store = store
        self._proof = proof
        self._metrics = instruments.metrics
        self._health = instruments.health
        self._replay_seconds = replay_seconds
        self._went_back = went_back

    async def load(self, progress: ShardProgress, ownership: Ownership) -> None:
        """Read all checkpoints of the pipeline and take an epoch above every one seen. Once, before the first shard.

        Raises RetryableError, FatalError; then it may be called again.
        """
        rows = await self._store.load()
        await self._proof.begin()
        progress.load(rows, await self._rewind(rows, ownership.member))
        if shards := len(progress.rewind.marks):
            self._metrics.rewound(shards)
            self._health.log_info(
                "reading again what ClickHouse may have lost", shards=shards, seconds=self._replay_seconds
            )
        seen = max((row.epoch for row in rows), default=0)
        ownership.epoch = max(int(await self._store.server_time() * 1_000_000), seen + 1)

    async def _rewind(self, rows: Sequence[Checkpoint], member: int) -> Rewind:
        """What is read again. Where ClickHouse went back, of the member as if the server had been started at that time.

        A shard that was saved since is not read again, so it does not matter in which session, or process, this is.
        """
        server, seconds = self._proof.server, self._replay_seconds
        if self._went_back:
            await self._store.note_rollback(member)
            self._went_back = False  # a retry need not say it again
        found = [rewind(rows, await self._store.past(server, history_rows(seconds)), server, seconds)]
        for rollback in await self._store.rollbacks():
            then = replace(server, started_at=rollback.noticed_at)
            theirs = [row for row in rows if row.member == rollback.member]
            found.append(rewind(theirs, await self._store.past(then, history_rows(seconds)), then, seconds))
        return together(found)
