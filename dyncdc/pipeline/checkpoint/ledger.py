"""ShardLedger: which position of a shard may be checkpointed. Only the contiguous acknowledged prefix, never more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from dyncdc.model.checkpoints import Mark
from dyncdc.model.shards import Shard

MANY_RECEIPTS = 1_000
"""From so many on, settled ones are made fewer."""


class Receipt:
    """Acknowledges one chunk once all its blocks are durable."""

    __slots__ = ("_give_back", "_ledger", "_parts", "_release", "mark")

    def __init__(
        self,
        ledger: ShardLedger,
        mark: Mark,
        parts: int,
        release: Callable[[], None],
        give_back: Callable[[int], None],
    ) -> None:
        self._ledger = ledger
        self.mark = mark
        self._parts = parts
        self._release = release
        self._give_back = give_back

    @property
    def shard(self) -> Shard:
        """The shard that the chunk came from."""
        return self._ledger.shard

    @property
    def settled(self) -> bool:
        """Whether every part is durable."""
        return self._parts == 0

    def replace(self, mark: Mark) -> None:
        """Move a receipt without parts further on. Only for the ledger."""
        self.mark = mark

    def ack(self, nbytes: int = 0) -> None:
        """Mark one part durable and give its bytes back. The last one gives back the rest and lets the frontier move.

        A part that waits, since its table takes nothing, holds no bytes of the others.
        """
        if self._parts <= 0:
            raise AssertionError(f"a part of {self.shard.id} was acknowledged twice")
        self._parts -= 1
        if self._parts == 0:
            self._release()
            self._ledger.advance()
        elif nbytes:
            self._give_back(nbytes)


class ShardLedger:
    """The tracked chunks of one shard, in read order.

    Invariant: every chunk at or before ``frontier`` is durable. A frontier exists only through receipts, so flushing
    before checkpointing is the only path.
    """

    def __init__(
        self, shard: Shard, start: Mark, *, persisted: Mark | None, on_finished: Callable[[], None] = lambda: None
    ) -> None:
        self.shard = shard
        self.frontier = self.start = start
        self.persisted = persisted
        """What the checkpoint store holds, None before the shard's first row. Set by the checkpointer only."""
        self._on_finished = on_finished
        self._open: deque[Receipt] = deque()
        self.incomplete = False
        """Whether the frontier has come to stay before something that was left out."""
        self._condensed = 0
        """How many receipts there were when neighbours were last made one."""

    @property
    def in_flight(self) -> int:
        """Chunks read and not yet part of the frontier."""
        return len(self._open)

    @property
    def read_until(self) -> float:
        """The frontier's, once something was read in this session; 0 before. A start may claim more than was read."""
        return 0.0 if self.frontier is self.start else self.frontier.read_until

    def track(
        self,
        mark: Mark,
        parts: int,
        release: Callable[[], None],
        give_back: Callable[[int], None] = lambda _: None,
        *,
        incomplete: bool = False,
    ) -> Receipt:
        """Register a chunk in read order. With no parts it settles as soon as all before it have.

        ``give_back`` gets the bytes of each part but the last, ``release`` is called with that. ``incomplete``: records
        of the chunk are not among the parts. The frontier never passes it: the next reader of the shard reads it again.
        """
        if incomplete and not self.incomplete:  # once is enough, and what follows is made fewer
            self.incomplete, parts = True, parts + 1
        if parts == 0:
            release()
            if self._open and self._open[-1].settled:
                self._open[-1].replace(mark)  # an idle shard polled for hours behind a stalled sink stays one entry
                return self._open[-1]
        receipt = Receipt(self, mark, parts, release, give_back)
        self._open.append(receipt)
        if len(self._open) > max(MANY_RECEIPTS, 2 * self._condensed):
            self._condense()
        if parts == 0:
            self.advance()
        return receipt

    def advance(self) -> None:
        """Move the frontier over the settled prefix. Called by receipts."""
        while self._open and self._open[0].settled:
            self.frontier = self._open.popleft().mark
        if self.frontier.finished:
            self._on_finished()

    def _condense(self) -> None:
        """Keep the last of settled neighbours: behind a table that takes nothing, others settle for hours."""
        kept: deque[Receipt] = deque()
        for receipt in self._open:
            if kept and kept[-1].settled and receipt.settled:
                kept.pop()
            kept.append(receipt)
        self._open, self._condensed = kept, len(kept)
