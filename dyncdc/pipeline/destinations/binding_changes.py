"""Binding changes: whether a table's changes still go where they went before, and what that costs when they did not.

Coverage belongs to one DynamoDB table written into one ClickHouse table. Names can change hands, so both are known by
what no one else can have. Pure decisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dyncdc.model.checkpoints import Mark
from dyncdc.model.gaps import Gap
from dyncdc.model.shards import ShardId, SourceId
from dyncdc.model.snapshots import Snapshot

from .bindings import Binding, DestinationContents, DestinationState, Target

WAS_ELSEWHERE = "its changes went to another table of that name meanwhile"
MADE_ANEW = "the table was deleted and created again"
EMPTIED = "rows were taken out of the destination (TRUNCATE, DROP PARTITION or DELETE)"


@dataclass(frozen=True, slots=True)
class EarlierBindings:
    """What earlier sessions recorded of a table: its bindings in this pipeline and its snapshots, oldest first."""

    bindings: Sequence[Binding]
    snapshots: Sequence[Snapshot]

    @property
    def last_uuid(self) -> str:
        """The destination that changes went to last, "" when there was none."""
        if self.bindings:
            return self.bindings[-1].target.uuid
        return self.snapshots[-1].destination_uuid if self.snapshots else ""

    def knows(self, uuid: str) -> bool:
        """Whether a destination was written, or was to be loaded, before."""
        return any(row.target.uuid == uuid for row in self.bindings) or any(
            snapshot.destination_uuid == uuid for snapshot in self.snapshots
        )

    def left_at(self, uuid: str) -> float:
        """Since when changes went elsewhere: up to then ``uuid`` has all of them."""
        later: Iterable[float] = ()
        for row in self.bindings:
            later = () if row.target.uuid == uuid else (*later, row.since)
        return min(later, default=0.0)


def missed_by(target: Target, former: EarlierBindings, source: SourceId, now: float) -> Gap | None:
    """Return what a table's destination misses as a session begins; None when it is as the last one left it."""
    if former.last_uuid != target.uuid and former.knows(target.uuid):
        return Gap(target.table, source, "", former.left_at(target.uuid), now, reason=WAS_ELSEWHERE)
    if former.bindings:
        last = former.bindings[-1]
        if last.target.uuid == target.uuid and _other_table(last.target, target):
            return Gap(target.table, source, "", last.since, now, reason=MADE_ANEW)
    return None


def _other_table(one: Target, other: Target) -> bool:
    return one.table_id != "" and _other_id(one, other)


def is_bound(target: Target, mine: Sequence[Binding], bindings: Iterable[Binding]) -> bool:
    """Whether the newest row of the table, and the newest of the destination, say that one goes to the other."""
    newest = max((row for row in bindings if row.target.uuid == target.uuid), key=lambda row: row.number, default=None)
    return bool(mine) and newest == mine[-1] and not _other_id(mine[-1].target, target)


def _other_id(one: Target, other: Target) -> bool:
    return other.table_id not in ("", one.table_id)


def proven_until(marks: Mapping[ShardId, Mark], now: float) -> float:
    """Up to when the destination that was written so far surely has all changes: those read later may have none."""
    return min((mark.read_until for mark in marks.values() if not mark.finished), default=now)


def is_emptied(held: DestinationContents, standing: DestinationState) -> bool:
    """Whether rows were taken away since a destination held so much.

    A merge, a mutation or a restart keeps the range of a part: whatever was there is in a part that begins at or below
    the greatest block of that time. A server that restarts with an empty table counts from 1 again.

    Parts of nothing but tombstones may go: where nothing was live nothing is missing, and a part of the partitions says
    nothing about a destination whose tombstones are cleaned up.
    """
    if not held.blocks or not held.live:
        return False
    found = [(block, standing.partitions.get(id_)) for id_, block in held.blocks.items()]
    gone = sum(1 for block, partition in found if partition is None or partition.first > block)
    if gone == len(found) or standing.cleaned:
        return gone == len(found)
    rows = sum(partition.rows for partition in standing.partitions.values())
    counts_anew = all(partition is None or partition.last < block for block, partition in found)
    return gone > 0 or (counts_anew and 2 * rows < held.rows)


def blocks_of(standing: DestinationState) -> dict[str, int]:
    """The greatest block number of each partition."""
    return {id_: partition.last for id_, partition in standing.partitions.items()}
