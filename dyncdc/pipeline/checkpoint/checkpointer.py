"""Checkpointer: one task, one insert for all shards; bookkeeping only after the insert has returned."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace

from dyncdc.errors import RetryableError
from dyncdc.model.checkpoints import Checkpoint, Mark
from dyncdc.model.shards import Shard, ShardId, SourceId
from dyncdc.pipeline.ports.checkpoints import CheckpointStore
from dyncdc.pipeline.recovery.rewind import Key, PastMarks, Rewind, history_rows, rewind, together
from dyncdc.pipeline.runtime import Instruments, Retrier

from .ledger import ShardLedger
from .proof import DurabilityProof
from .save_schedule import SaveSchedule
from .saved_marks import SavedMarks


class Checkpointer:
    """Persists the frontiers of all ledgers. The only writer of ``ShardLedger.persisted``.

    ``replay_seconds``: what was acknowledged so shortly before a restart of ClickHouse is read again. ``went_back``:
    the session before has seen that ClickHouse went back, restarted or not; its tables may not be of one instant.
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
        self._replay_seconds = replay_seconds
        self._went_back = went_back
        self._proving = DurabilityProof(store, instruments.metrics, instruments.health, member)
        self._past = PastMarks()
        self.rewind = Rewind()
        """What is read again, for the server may have lost what came of it."""
        self._reopened: set[Key] = set()
        """Shards that are read again and saved as finished."""
        self._interval_seconds = interval_seconds
        self._instruments = instruments
        self._metrics = instruments.metrics
        self._health = instruments.health
        self._clock = instruments.clock
        self._member = member
        self._ordinal = 0
        self._saved = SavedMarks()
        self._schedule = SaveSchedule()
        self._stopping = asyncio.Event()
        self._wanted = asyncio.Event()
        self.ledgers: dict[tuple[SourceId, ShardId], ShardLedger] = {}
        self.epoch = 0
        self.looked_at = float("-inf")
        """Loop time at which the last look at other members' rows was begun."""
        self.watched: set[SourceId] = set()
        """Sources for which saves of other members matter."""
        self._on_saved: list[Callable[[], None]] = []
        self._on_ended_elsewhere: list[Callable[[Collection[SourceId]], None]] = []
        self.still_alone: Callable[[], Awaitable[None]] = _nobody_else
        """Raises FatalError when another process has begun as this member since."""

    async def load(self) -> None:
        """Read all checkpoints of the pipeline and take an epoch above every one seen. Once, before the first shard."""
        rows = await self._store.load()
        await self._proving.begin()
        self.rewind = await self._rewind(rows)
        self._reopened.update(self._saved.load(rows, self.rewind))
        if shards := len(self.rewind.marks):
            self._metrics.rewound(shards)
            self._health.log_info(
                "reading again what ClickHouse may have lost", shards=shards, seconds=self._replay_seconds
            )
        seen = max((row.epoch for row in rows), default=0)
        self.epoch = max(int(await self._store.server_time() * 1_000_000), seen + 1)

    async def _rewind(self, rows: Sequence[Checkpoint]) -> Rewind:
        """What is read again. Where ClickHouse went back, of the member as if the server had been started at that time.

        A shard that was saved since is not read again, so it does not matter in which session, or process, this is.
        """
        server, seconds = self._proving.server, self._replay_seconds
        if self._went_back:
            await self._store.note_rollback(self._member)
            self._went_back = False  # a retry need not say it again
        found = [rewind(rows, await self._store.past(server, history_rows(seconds)), server, seconds)]
        for rollback in await self._store.rollbacks():
            then = replace(server, started_at=rollback.noticed_at)
            theirs = [row for row in rows if row.member == rollback.member]
            found.append(rewind(theirs, await self._store.past(then, history_rows(seconds)), then, seconds))
        return together(found)

    async def refresh(self, sources: Collection[SourceId]) -> None:
        """Take up what other members have saved of these sources. Raises RetryableError, FatalError."""
        begun = asyncio.get_running_loop().time()
        self._take(await self._store.refresh(sources))
        self.looked_at = begun

    async def load_again(self) -> None:
        """Take up what others have saved of any source, read consistently. Raises RetryableError, FatalError."""
        self._take(await self._store.load())

    def _take(self, rows: Sequence[Checkpoint]) -> None:
        moved, ended = self._saved.take(rows, self.rewind, self.ledgers)
        if ended:
            for tell in self._on_ended_elsewhere:
                tell(ended)
        if moved:
            for callback in self._on_saved:
                callback()

    def on_ended_elsewhere(self, callback: Callable[[Collection[SourceId]], None]) -> None:
        """Call ``callback`` with the sources whose shards other members have finished."""
        self._on_ended_elsewhere.append(callback)

    def saved(self, source: SourceId) -> Mapping[ShardId, Mark]:
        """What the store held for a source at the start; of shards that are not read here, at the last look."""
        return self._saved.of(source)

    def known_shards(self, source: SourceId) -> set[ShardId]:
        """Every shard of a source that has a row, or is about to get one."""
        return {
            *self.saved(source),
            *self.finished(source),
            *(shard for owner, shard in self.ledgers if owner == source),
        }

    def newest_epoch(self, source: SourceId) -> int:
        """The greatest epoch that the store held for a source at the start, 0 when it held none."""
        return self._saved.newest_epoch(source)

    def on_saved(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after every save that wrote something: shards may have been persisted as finished."""
        self._on_saved.append(callback)

    def checkpointed(self, source: SourceId) -> bool:
        """Whether every shard that is followed has a row: from here on nothing of the source can be forgotten."""
        return all(ledger.persisted is not None for ledger in self.ledgers.values() if ledger.shard.source == source)

    def finished(self, source: SourceId) -> Collection[ShardId]:
        """Shards of a source that are persisted as finished."""
        return self._saved.finished(source)

    def read_until(self, source: SourceId, shard: ShardId) -> float | None:
        """Up to when a finished shard was read, and so what its children have not lost; None for any other."""
        return self._saved.read_until(source, shard)

    def open(self, shard: Shard, start: Mark) -> ShardLedger:
        """Begin to follow a shard. Its first row is written by the next save, before anything else is known of it."""
        # What is read again has a row only once it is saved again.
        persisted = None if (shard.source, shard.id) in self.rewind.marks else self.saved(shard.source).get(shard.id)
        ledger = ShardLedger(shard, start, persisted=persisted, on_finished=self._wanted.set)
        self.ledgers[shard.source, shard.id] = ledger
        self._wanted.set()
        return ledger

    def restart(self, shard: Shard, start: Mark) -> None:
        """Follow a shard from elsewhere: what lay before is lost, and a durable gap says so. No one may be reading it.

        Until that is saved the shard counts as not held.
        """
        self.ledgers[shard.source, shard.id] = ShardLedger(shard, start, persisted=None, on_finished=self._wanted.set)
        self._wanted.set()

    def heartbeat(self, source: SourceId) -> None:
        """Save with the next save how far every shard of a source is read: someone waits for it."""
        self._schedule.want(source)

    def abandon(self, source: SourceId) -> None:
        """Stop following the shards of a source that no one reads any more."""
        for owner, shard in [key for key in self.ledgers if key[0] == source]:
            del self.ledgers[owner, shard]

    def positions(self, source: SourceId) -> dict[ShardId, Mark]:
        """The newest durable mark of every shard of a source that is not finished."""
        marks = dict(self.saved(source))
        for (owner, shard), ledger in self.ledgers.items():
            if owner == source and ledger.persisted is not None:
                marks[shard] = ledger.persisted
        return {shard: mark for shard, mark in marks.items() if shard not in self.finished(source)}

    async def save(self) -> None:
        """Write the frontiers that moved, in one insert. Raises RetryableError; then nothing has changed here.

        Raises FatalError when another process has taken the shards over.
        """
        now = asyncio.get_running_loop().time()
        dirty = [(ledger, ledger.frontier) for ledger in self.ledgers.values() if self._schedule.is_due(ledger, now)]
        if not dirty:
            await self.check_durable()
            return
        await self.check_ownership({(ledger.shard.source, ledger.shard.id) for ledger, _ in dirty})
        self._schedule.begin()
        self._ordinal += 1
        past = self._past.due((ledger for ledger, _ in dirty), self.epoch, self._ordinal, now)
        if past:
            await self._store.remember(past)
            self._past.remembered(past, now)
        rows = self._rows(dirty)
        await self._store.save(rows)
        self._proving.last = rows[-1]
        for ledger, mark in dirty:
            self._settle(ledger, mark, now)
        for callback in self._on_saved:
            callback()
        self._metrics.checkpointed(self._clock())

    async def check_ownership(self, shards: Collection[tuple[SourceId, ShardId]]) -> None:
        """Raise FatalError when another process has taken any of these shards over: what we believe of them is old.

        Also WentBackError, when what was saved last may be gone. Raises RetryableError.
        """
        await self.still_alone()
        await self._proving.prove(shards, self.epoch)

    async def check_durable(self) -> None:
        """As ``check_ownership``, of nothing but what was saved last; asks only after a new connection."""
        await self._proving.prove_connection(self.epoch)

    def _rows(self, dirty: Sequence[tuple[ShardLedger, Mark]]) -> list[Checkpoint]:
        return [
            Checkpoint(
                ledger.shard.source,
                ledger.shard.id,
                mark,
                self.epoch,
                self._ordinal,
                self._member,
                reopened=(ledger.shard.source, ledger.shard.id) in self._reopened and not mark.finished,
            )
            for ledger, mark in dirty
        ]

    def _settle(self, ledger: ShardLedger, mark: Mark, now: float) -> None:
        key = ledger.shard.source, ledger.shard.id
        ledger.persisted = mark
        self._reopened.discard(key)
        self._schedule.saved(key, now, finished=mark.finished)
        if mark.finished:
            self._saved.finish(*key, mark)
            self.ledgers.pop(key, None)
            self._past.forget(key)

    async def run(self) -> None:
        """Save at every interval until stopped. Failed saves are repeated; the frontier waits in the ledgers."""
        retry = Retrier(self._instruments, "checkpoint", "checkpointer")
        with self._health.task("checkpointer") as task:
            while not self._stopping.is_set():
                task.waiting_for("the next interval", for_seconds=self._interval_seconds)
                try:
                    async with asyncio.timeout(self._interval_seconds):
                        await self._wanted.wait()
                except TimeoutError:
                    pass  # the interval is over: that is what we wait for
                self._wanted.clear()  # not after the save: what is wanted while it lasts would wait an interval
                task.waiting_for("ClickHouse to take the checkpoints")
                try:
                    with self._metrics.stage("checkpoint"):
                        await self.save()
                    task.moved()
                except RetryableError as error:
                    retry.failed(error, self._interval_seconds)
                    await asyncio.sleep(min(self._interval_seconds, 1.0))

    def stop(self) -> None:
        """Let ``run`` return after the save it may be in."""
        self._stopping.set()
        self._wanted.set()


async def _nobody_else() -> None:
    """Of a pipeline whose sessions no one keeps."""
