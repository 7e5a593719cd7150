"""Many shards as a few numbers and the worst of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence

from .model import HEADROOM, LAG, WORST_SHARDS, Shards, ShardStatus

MUCH_SECONDS = 30.0
"""What makes a difference between two shards."""


def summarize(shards: Sequence[ShardStatus], states: Mapping[str, float]) -> Shards:
    """Count all, and list the worst."""
    return Shards(
        states=dict(states),
        read=len(shards),
        behind=sum(shard.lag_seconds is not None and LAG.severity(shard.lag_seconds) != "" for shard in shards),
        expiring=sum(
            shard.headroom_seconds is not None and HEADROOM.severity(shard.headroom_seconds) == "bad"
            for shard in shards
        ),
        worst=worst_of(shards),
    )


def worst_of(shards: Iterable[ShardStatus]) -> list[ShardStatus]:
    """Unknown lag first, then the least headroom, then the longest lag; names decide between those about equal.

    So the lines of a page do not jump about while all is well.
    """
    return heapq.nsmallest(WORST_SHARDS, shards, key=_badness)


def _badness(shard: ShardStatus) -> tuple[bool, float, float, str, str]:
    left = float("inf") if shard.headroom_seconds is None else shard.headroom_seconds
    lag = shard.lag_seconds or 0.0
    return shard.lag_seconds is not None, left // MUCH_SECONDS, -(lag // MUCH_SECONDS), shard.stream, shard.shard
