"""Gaps: what a lost position costs, and what no one has read when a session begins. Pure decisions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from dyncdc.model.checkpoints import Mark
from dyncdc.model.gaps import Gap, TableSource
from dyncdc.model.shards import Position, ShardId, SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.reading.lineage import LostPosition
from dyncdc.timestamps import timestamp

CLOCKS_DIFFER_SECONDS = 60.0
"""Kinesis and DynamoDB tell the time by clocks of their own, and Kinesis in whole seconds."""

JOINED_SECONDS = 60.0
"""Losses of a shard that lie no further apart are one."""

NOTICED_WITHIN_SECONDS = 120.0
"""A destination that was switched off longer before the end of a session was seen off by it, and its gap is there."""


def gaps_of(tables: Iterable[str], source: SourceId, lost: Iterable[LostPosition], end: float) -> list[Gap]:
    """Return a gap for every table that a lost position concerns. ``end``: from here on reading goes on."""
    positions = list(lost)
    return [
        Gap(table, source, loss.shard, loss.mark.read_until, end, loss.mark.position, loss.reason)
        for table in tables
        for loss in positions
    ]


def lost_with_source(marks: Mapping[ShardId, Mark], reason: str) -> list[LostPosition]:
    """Return every position that is lost when the whole source is."""
    return [LostPosition(shard, mark, reason) for shard, mark in marks.items() if not mark.finished]


def missed_since(
    before: TableSource,
    source: SourceId,
    newest_epoch: int,
    marks: Mapping[ShardId, Mark],
    now: float,
    created: float = 0.0,
) -> Iterator[Gap]:
    """Yield what a table misses that was followed ``before`` and is to be followed on ``source`` now.

    ``marks``: what is saved of the source that it was followed on. ``newest_epoch``: of the sessions that have read
    ``source``; one younger than the table's read it without the table. ``created``: when DynamoDB made
    the table, in seconds.
    """
    if before.source != source:
        words = _replaced(before.source, source)
        lost = lost_with_source(marks, words)
        if not lost:
            lost = [LostPosition(ShardId(""), Mark(Position(""), before.at), words)]
        yield from gaps_of([before.table], before.source, lost, now)
    elif created > before.at + CLOCKS_DIFFER_SECONDS:
        yield Gap(before.table, source, "", before.at, now, "", "the table was deleted and created again")
    elif before.held and not marks:
        yield Gap(before.table, source, "", before.at, now, "", "the checkpoints of the stream are gone")
    elif before.epoch < newest_epoch:
        yield Gap(before.table, source, "", before.at, now, "", "the stream was read without the table for a while")


def last_covered(before: TableSource, marks: Mapping[ShardId, Mark]) -> float:
    """Up to when a table that was covered has surely sent its changes to the stream.

    A session notices within seconds that it does not, with very many tables within minutes; ``marks`` say how long the
    last one lived.
    """
    return max(before.at, max((mark.read_until for mark in marks.values()), default=0.0) - NOTICED_WITHIN_SECONDS)


def _replaced(before: str, source: str) -> str:
    if before.rpartition("@")[0] == source.rpartition("@")[0]:
        return "the stream was deleted and created again"
    return f"the table was read from another stream, {before.rpartition('@')[0]}"


def closes(snapshot: Snapshot, gap: Gap) -> bool:
    """Whether a snapshot makes a gap good once it is complete: its table was covered from the gap's end on.

    A gap may lie far behind the instant at which it was noticed. A snapshot of a destination without rows is not swept,
    and items whose delete was lost would stay: rows of theirs may have come from the stream before the gap.
    """
    return gap.end <= snapshot.covered_from and snapshot.had_rows


def needs_snapshot(snapshot: Snapshot, gaps: Iterable[Gap]) -> bool:
    """Whether there is a gap that a snapshot cannot close."""
    return any(not gap.accepted and not closes(snapshot, gap) for gap in gaps)


def joined(gap: Gap, known: Iterable[Gap], now: float) -> Gap | None:
    """Return a gap as it is to be written: an open one of the same shard that goes on, or None where that has it all.

    One that goes on is written further than is known yet, by a minute: a shard that is read at the very edge of the
    retention loses something with each answer.
    """
    before = [
        other
        for other in known
        if (other.table, other.source, other.shard) == (gap.table, gap.source, gap.shard)
        and other.begin <= gap.begin <= other.end + JOINED_SECONDS
        and not other.accepted
    ]
    if not before:
        return gap
    last = max(before, key=lambda other: other.end)
    if gap.end <= last.end:
        return None
    return replace(last, end=max(gap.end, min(now, gap.end + JOINED_SECONDS)), reason=gap.reason)


def in_words(gap: Gap) -> str:
    """Say what is missing, and why, on one line."""
    begin = "its first change" if not gap.begin else timestamp(gap.begin)
    where = f"shard {gap.shard}, " if gap.shard else ""
    after = f" (after position {gap.position})" if gap.position.isdecimal() else ""
    return f"changes of {gap.table} between {begin} and {timestamp(gap.end)}{after} may be missing: {where}{gap.reason}"
