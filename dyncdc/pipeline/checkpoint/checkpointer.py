"""Checkpointer: one task, one insert for all shards; bookkeeping only after the insert has returned."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from dyncdc.errors import RetryableError
from dyncdc.model.checkpoints import Checkpoint, Mark
from dyncdc.model.shards import SourceId
from dyncdc.pipeline.ports.checkpoints import CheckpointStore
from dyncdc.pipeline.recovery.rewind import PastMarks
from dyncdc.pipeline.runtime import Instruments, Retrier

from .ledger import ShardLedger
from .ownership import Ownership
from .peer_checkpoints import PeerCheckpoints
from .proof import DurabilityProof
from .save_schedule import SaveSchedule
from .session_start import SessionStart
from .shard_progress import ShardProgress


class Checkpointer:
    """Persists the frontiers of all ledgers. The only writer of ``ShardLedger.persisted``.

    ``replay_seconds`` and ``went_back``: see ``SessionStart``.
    """

    def __init__(
        self,
        store: CheckpointStore,
        instruments: Instruments,
        *,
        interval_seconds: float,
        member: int = 0,
        replay_seconds: float = 0.0,
        went_back: bool = False,
    ) -> None:
        self._store = store
        self._instruments = instruments
        self._interval_seconds = interval_seconds
        self._proof = DurabilityProof(store, instruments.metrics, instruments.health, member)
        self._start = SessionStart(store, self._proof, instruments, replay_seconds=replay_seconds, went_back=went_back)
        self._past = PastMarks()
        self._ordinal = 0
        self._schedule = SaveSchedule()
        self._stopping = asyncio.Event()
        self.progress = ShardProgress()
        self.ownership = Ownership(self._proof, member)
        self.peers = PeerCheckpoints(store, self.progress, instruments)

    async def load(self) -> None:
        """Read all checkpoints of the pipeline and take an epoch above every one seen. Once, before the first shard.

        Raises RetryableError, FatalError.
        """
        await self._start.load(self.progress, self.ownership)

    def heartbeat(self, source: SourceId) -> None:
        """Save with the next save how far every shard of a source is read: someone waits for it."""
        self._schedule.want(source)

    async def save(self) -> None:
        """Write the frontiers that moved, in one insert. Raises RetryableError; then nothing has changed here.

        Raises FatalError when another process has taken the shards over.
        """
        now = asyncio.get_running_loop().time()
        ledgers = self.progress.ledgers.values()
        dirty = [(ledger, ledger.frontier) for ledger in ledgers if self._schedule.is_due(ledger, now)]
        if not dirty:
            await self.ownership.check_durable()
            return
        await self.ownership.check({(ledger.shard.source, ledger.shard.id) for ledger, _ in dirty})
        self._schedule.begin()
        self._ordinal += 1
        past = self._past.due((ledger for ledger, _ in dirty), self.ownership.epoch, self._ordinal, now)
        if past:
            await self._store.remember(past)
            self._past.remembered(past, now)
        rows = self._rows(dirty)
        await self._store.save(rows)
        self._proof.last = rows[-1]
        for ledger, mark in dirty:
            self._settle(ledger, mark, now)
        self.progress.notify_saved()
        self._instruments.metrics.checkpointed(self._instruments.clock())

    def _rows(self, dirty: Sequence[tuple[ShardLedger, Mark]]) -> list[Checkpoint]:
        return [
            Checkpoint(
                ledger.shard.source,
                ledger.shard.id,
                mark,
                self.ownership.epoch,
                self._ordinal,
                self.ownership.member,
                reopened=self.progress.is_reopened((ledger.shard.source, ledger.shard.id)) and not mark.finished,
            )
            for ledger, mark in dirty
        ]

    def _settle(self, ledger: ShardLedger, mark: Mark, now: float) -> None:
        key = ledger.shard.source, ledger.shard.id
        self.progress.settle(ledger, mark)
        self._schedule.saved(key, now, finished=mark.finished)
        if mark.finished:
            self._past.forget(key)

    async def run(self) -> None:
        """Save at every interval until stopped. Failed saves are repeated; the frontier waits in the ledgers."""
        retry = Retrier(self._instruments, "checkpoint", "checkpointer")
        wanted = self.progress.save_wanted
        with self._instruments.health.task("checkpointer") as task:
            while not self._stopping.is_set():
                task.waiting_for("the next interval", for_seconds=self._interval_seconds)
                try:
                    async with asyncio.timeout(self._interval_seconds):
                        await wanted.wait()
                except TimeoutError:
                    pass  # the interval is over: that is what we wait for
                wanted.clear()  # not after the save: what is wanted while it lasts would wait an interval
                task.waiting_for("ClickHouse to take the checkpoints")
                try:
                    with self._instruments.metrics.stage("checkpoint"):
                        await self.save()
                    task.moved()
                except RetryableError as error:
                    retry.failed(error, self._interval_seconds)
                    await asyncio.sleep(min(self._interval_seconds, 1.0))

    def stop(self) -> None:
        """Let ``run`` return after the save it may be in."""
        self._stopping.set()
        self.progress.save_wanted.set()
