"""StreamFollower: discovers the shards of one stream and has each read when its turn comes.

Parents before children, nothing skipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from ..errors import FatalError, RetryableError
from ..model import HORIZON, Mark, RawChunk, Shard, ShardId
from .checkpointer import Checkpointer
from .lineage import LostPosition, lost_positions, ready
from .ports import Decoder, Source
from .pump import Engine, Pump
from .readers import Readers
from .retry import Backoff

LIST_INTERVAL_SECONDS = 30.0
"""The safety net: children are named by the last answer of their parent, so a list finds only what that missed."""


class StreamFollower:
    """One stream. Discovery is incremental: what was listed stands, what failed is listed again."""

    def __init__(
        self,
        source: Source,
        decoder: Decoder,
        readers: Readers,
        checkpointer: Checkpointer,
        engine: Engine,
        *,
        list_interval_seconds: float = LIST_INTERVAL_SECONDS,
    ) -> None:
        self.source = source
        self._decoder = decoder
        self._readers = readers
        self._checkpointer = checkpointer
        self._engine = engine
        self._list_interval_seconds = list_interval_seconds
        self._listed: dict[ShardId, Shard] = {}
        self._named: set[ShardId] = set()
        """Children named by a parent's last answer that no list has shown yet."""
        self._read: set[ShardId] = set()
        """Shards read to their end; they are not read again while that waits to be persisted."""
        self._complete = False
        """Whether a list that is younger than every known shard was read to its last page."""
        self._list_now = True
        self._wake = asyncio.Event()
        self._fresh = not checkpointer.saved(source.id)
        self.held = asyncio.Event()
        """Set once every listed shard has a row in the checkpoints: from then on nothing can be missed."""
        checkpointer.on_saved(self._wake.set)

    @property
    def _name(self) -> str:
        return f"discovery:{self.source.label}"

    async def run(self) -> None:
        """Discover and release until cancelled. Raises FatalError for a lost position."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(first_seconds=0.2)
        next_list = loop.time()  # the first list is due
        with self._engine.progress.task(self._name) as task:
            while True:
                self._wake.clear()
                if self._list_now or loop.time() >= next_list:
                    task.waiting_for("the list of shards")
                    try:
                        await self._discover()
                        backoff.reset()
                        next_list = loop.time() + self._list_interval_seconds
                    except RetryableError as error:
                        pause_seconds = backoff.next_seconds()
                        self._engine.metrics.retry("discovery", error)
                        self._engine.progress.report(self._name, error, pause_seconds)
                        next_list = loop.time() + pause_seconds
                self._release()
                task.moved()
                task.waiting_for("the next list of shards", for_seconds=self._list_interval_seconds)
                try:
                    async with asyncio.timeout_at(next_list):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _discover(self) -> None:
        seen: set[ShardId] = set()
        self._complete = self._list_now = False
        async for page in self.source.list_shards():
            for shard in page:
                seen.add(shard.id)
                self._listed[shard.id] = shard
            if not self._fresh or self._starts_at_horizon():
                self._follow()
                self._release()
        self._named -= seen
        self._read -= set(self._checkpointer.finished(self.source.id))
        present = seen | self._named | self._read | self._readers.running(self.source.id)
        for gone in self._listed.keys() - present:
            del self._listed[gone]
        self._complete = not self._list_now
        self._refuse_lost(present)
        self._follow()

    def _starts_at_horizon(self) -> bool:
        """Whether shards may be followed before the list is complete: nothing depends on which were there first."""
        return all(self.source.start_position(shard) == HORIZON for shard in self._listed.values())

    def _refuse_lost(self, present: set[ShardId]) -> None:
        """Look at every position once a list is complete. Raises FatalError."""
        marks = dict(self._checkpointer.saved(self.source.id))
        for (source, shard), ledger in self._checkpointer.ledgers.items():
            if source == self.source.id:
                marks[shard] = ledger.frontier
        for shard in self._checkpointer.finished(self.source.id):
            marks.pop(shard, None)
        self._refuse(marks, present)

    def _refuse(self, marks: Mapping[ShardId, Mark], present: Collection[ShardId]) -> None:
        retention_seconds = self.source.retention_seconds
        if retention_seconds is None:
            return
        now = self.source.server_time
        for lost in lost_positions(marks, present, retention_seconds=retention_seconds, now=now):
            raise self._lost(lost)

    def _lost(self, lost: LostPosition) -> FatalError:
        return FatalError(
            f"reading {self.source.label}: the position of {lost.shard} is lost, {lost.reason};"
            f" changes after position {lost.mark.position} are missing",
            hint="the destination needs a fresh snapshot: empty its tables and start under another `pipeline` name",
        )

    def _follow(self) -> None:
        """Give every listed shard its row. A fresh source starts as configured, all else at the horizon."""
        saved = self._checkpointer.saved(self.source.id)
        finished = self._checkpointer.finished(self.source.id)
        for shard in self._listed.values():
            if shard.id in finished:
                continue
            mark = saved.get(shard.id)
            if mark is None:
                position = self.source.start_position(shard) if self._fresh else HORIZON
                mark = Mark(position, self.source.server_time)
            self._readers.follow(shard, mark)

    def _release(self) -> None:
        """Start every shard whose turn has come. Starts beyond the horizon are saved before the first read."""
        if self._complete and self._checkpointer.held(self.source.id):
            self._fresh = False
            self.held.set()
        finished = self._checkpointer.finished(self.source.id)
        busy = self._readers.running(self.source.id) | self._read
        for shard in ready(self._listed, finished, busy, complete=self._complete):
            ledger = self._checkpointer.ledgers.get((shard.source, shard.id))
            if ledger is None or (ledger.persisted is None and ledger.frontier.position != HORIZON):
                continue
            # Before the first read: Kinesis would go on at the horizon without a word, and the loss would not show.
            self._refuse({shard.id: ledger.frontier}, {shard.id})
            self._readers.start(self.source, shard, self._decoder, self._ended)

    def _ended(self, last: RawChunk | None) -> None:
        """Take up the children that the last answer named; they start when their parents are persisted as finished."""
        if last is not None:
            self._read.add(last.shard.id)
            for child in last.children:
                self._name_child(child, last.read_until)
        self._wake.set()

    def _name_child(self, child: Shard, read_until: float) -> None:
        if child.id not in self._listed:
            self._named.add(child.id)
            self._listed[child.id] = child
        self._readers.follow(child, Mark(HORIZON, read_until))
        if child.parents - self._listed.keys() - set(self._checkpointer.finished(self.source.id)):
            # The other parent of a merge may be younger than our last list, and not expired at all.
            self._complete, self._list_now = False, True

    def pumps(self) -> list[Pump]:
        """Pumps of this stream that run now."""
        return [pump for (source, _), pump in self._readers.pumps.items() if source == self.source.id]

    def pending(self) -> bool:
        """Whether a listed shard is neither finished nor being read."""
        finished = self._checkpointer.finished(self.source.id)
        return bool(self._listed.keys() - set(finished) - self._readers.running(self.source.id))
