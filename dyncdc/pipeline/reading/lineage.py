"""Which shards may be read now, and which positions are lost. Pure decisions over what is listed and what is saved."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from dyncdc.model.checkpoints import Mark
from dyncdc.model.shards import Shard, ShardId


def ready(
    listed: Mapping[ShardId, Shard],
    finished: Collection[ShardId],
    running: Collection[ShardId],
    *,
    complete: bool,
) -> list[Shard]:
    """Return the shards that are neither finished nor running and whose parents are persisted as finished.

    A parent that a ``complete`` listing does not name has expired and does not hold its children back; while the
    listing is incomplete it might be on the page that is missing, so its children wait.
    """

    def free(parent: ShardId) -> bool:
        return parent in finished or (complete and parent not in listed)

    return [
        shard
        for shard in listed.values()
        if shard.id not in finished and shard.id not in running and all(map(free, shard.parents))
    ]


def unread_parents(listed: Mapping[ShardId, Shard], known: Collection[ShardId]) -> dict[ShardId, ShardId]:
    """Return shards that came and went between two looks at a stream, each with the child that names it.

    ``known``: every shard that ever had a row. A shard that is new and whose parent is neither listed nor known had a
    parent that no one has read.
    """
    return {
        parent: shard.id
        for shard in listed.values()
        if shard.id not in known
        for parent in shard.parents
        if parent not in listed and parent not in known
    }


@dataclass(frozen=True, slots=True)
class LostPosition:
    """A position that can never be read again, and why, in words."""

    shard: ShardId
    mark: Mark
    reason: str


def lost_positions(
    saved: Mapping[ShardId, Mark],
    listed: Collection[ShardId],
    *,
    retention_seconds: float,
    now: float,
) -> Iterable[LostPosition]:
    """Yield the positions that are lost, given a complete listing.

    A position is lost if and only if ``read_until`` is older than the retention, or the shard is no longer listed and
    not finished. Reading from such a position would silently start somewhere else.
    """
    for shard, mark in saved.items():
        if mark.finished:
            continue
        if shard not in listed:
            yield LostPosition(shard, mark, "the stream no longer lists the shard and it was not read to its end")
        elif mark.read_until and now - mark.read_until > retention_seconds:
            hours = (now - mark.read_until) / 3600
            yield LostPosition(shard, mark, f"it was read until {hours:.1f} h ago and the stream keeps less than that")
