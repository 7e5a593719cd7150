"""Rewind: where reading goes on when the server may have lost the newest of what it had acknowledged. Pure decisions.

A position says that everything before it was acknowledged, and not that a server which lost power, or was restored,
still has it. What was acknowledged in the last seconds before that is read again: rows are idempotent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dyncdc.model.checkpoints import Checkpoint, Mark, Past, PastMark, Server
from dyncdc.model.shards import ShardId, SourceId
from dyncdc.pipeline.checkpoint.ledger import ShardLedger

HISTORY_SECONDS = 60.0
"""Pause between two past marks of a shard: so much more than asked for may be read again."""

ROUNDING_SECONDS = 1.0
"""A server tells its age in whole seconds, so its start may look so much later than it was."""

CLOCK_SECONDS = 2.0
"""Two looks at one server's start may differ by so much."""

Key = tuple[SourceId, ShardId]


def history_rows(replay_seconds: float) -> int:
    """How many past marks of a shard reach back so far, those of some restarts included."""
    return 32 + 2 * round(replay_seconds / HISTORY_SECONDS)


def is_restarted(before: Server, started_at: float) -> bool:
    """Whether a server has been started again, as far as its own clock tells."""
    return bool(before.started_at and started_at) and abs(started_at - before.started_at) > CLOCK_SECONDS


def is_before(row: Checkpoint, server: Server, saved_by: str = "") -> bool:
    """Whether a row is older than the server that answers now, and what it stands for may be lost.

    That is also what a process has saved that began before: it had not noticed yet. ``saved_by``: the id of the
    server that took the shard's newest past mark.
    """
    return _saved_before(row, server, saved_by) or _begun_before(row.epoch, server)


def _saved_before(row: Checkpoint, server: Server, saved_by: str) -> bool:
    return row.saved_at < server.started_at or bool(server.id and saved_by and server.id != saved_by)


def _begun_before(epoch: int, server: Server) -> bool:
    return epoch / 1_000_000 < server.started_at - ROUNDING_SECONDS


@dataclass(frozen=True, slots=True)
class Rewind:
    """What is read again. ``marks``: those that take the place of saved ones, of any member's shards.

    ``durable_until``: what was acknowledged later, by a server before this one, may be lost; infinite where none was.
    ``others``: of other times at which something was lost; ``marks`` has the marks of all.
    """

    marks: Mapping[Key, Mark] = field(default_factory=dict)
    server: Server = field(default_factory=Server)
    durable_until: float = float("inf")
    others: Sequence[Rewind] = ()

    def touches(self, saved_at: float, epoch: int) -> bool:
        """Whether what was acknowledged then, to a process of that epoch, may be lost."""
        begun_before = _begun_before(epoch, self.server) and saved_at > self.durable_until
        return (
            begun_before
            or self.durable_until < saved_at < self.server.started_at
            or any(one.touches(saved_at, epoch) for one in self.others)
        )

    def acknowledged_before(self, saved_at: float) -> bool:
        """Whether what a server acknowledged then, to any client, may be lost."""
        before = self.durable_until < saved_at < self.server.started_at
        return before or any(one.acknowledged_before(saved_at) for one in self.others)

    def overtakes(self, row: Checkpoint) -> bool:
        """Whether a shard is read again from before this row, and its reader has saved nothing since."""
        if any(one.overtakes(row) for one in self.others):
            return True
        return (row.source, row.shard) in self.marks and is_before(row, self.server)


def together(rewinds: Sequence[Rewind]) -> Rewind:
    """Return all of them as one: each shard is read again from the mark that lies furthest back."""
    if len(rewinds) == 1:
        return rewinds[0]
    marks: dict[Key, Mark] = {}
    for one in sorted(rewinds, key=lambda one: one.durable_until, reverse=True):
        marks.update(one.marks)
    return Rewind(marks, others=tuple(rewinds))


def rewind(rows: Sequence[Checkpoint], past: Past, server: Server, replay_seconds: float) -> Rewind:
    """Return which marks take the place of those that may stand for lost rows; all others stay.

    Never ahead of the mark that is saved. Everything acknowledged up to ``replay_seconds`` before the last save that a
    server before this one has taken counts as durable.
    """
    by_shard: dict[Key, list[PastMark]] = {}
    for one in past.marks:
        by_shard.setdefault((one.source, one.shard), []).append(one)
    judged = [(row, by_shard.get((row.source, row.shard), [])) for row in rows]
    saves = [row.saved_at for row, known in judged if _saved_before(row, server, _server_of(known))]
    if not saves and not past.last_before:
        return Rewind(server=server)
    durable_until = max([*saves, past.last_before]) - replay_seconds
    found = {}
    for row, known in judged:
        if row.saved_at <= durable_until or not is_before(row, server, _server_of(known)):
            continue
        mark = _as_of([one for one in known if (one.epoch, one.ordinal) <= (row.epoch, row.ordinal)], durable_until)
        if mark is not None and mark != row.mark:
            found[row.source, row.shard] = mark
    return Rewind(found, server, durable_until)


def _server_of(past: Sequence[PastMark]) -> str:
    return past[-1].server if past else ""


def _as_of(past: Sequence[PastMark], instant: float) -> Mark | None:
    """The newest mark that was durable at ``instant``, else the one at which reading began after it."""
    begin = max((number for number, mark in enumerate(past) if mark.begins), default=0)
    run = past[begin:]
    old = [one.mark for one in run if one.saved_at <= instant]
    return old[-1] if old else (run[0].mark if run else None)


class PastMarks:
    """Which marks are due to be remembered. A mark is remembered as it was saved, so it is durable by then."""

    def __init__(self) -> None:
        self._remembered_at: dict[Key, float] = {}

    def due(self, ledgers: Iterable[ShardLedger], epoch: int, ordinal: int, now: float) -> list[PastMark]:
        """Return what has to be remembered before these ledgers are saved again; ``now``: loop time."""
        found = []
        for ledger in ledgers:
            shard, saved = ledger.shard, ledger.persisted
            if saved is None:
                found.append(PastMark(shard.source, shard.id, ledger.start, epoch, ordinal, begins=True))
            elif now - self._remembered_at.get((shard.source, shard.id), -HISTORY_SECONDS) >= HISTORY_SECONDS:
                found.append(PastMark(shard.source, shard.id, saved, epoch, ordinal))
        return found

    def remembered(self, marks: Iterable[PastMark], now: float) -> None:
        """Take note of what is durable."""
        self._remembered_at.update(((mark.source, mark.shard), now) for mark in marks)

    def forget(self, key: Key) -> None:
        """A shard is finished."""
        self._remembered_at.pop(key, None)
