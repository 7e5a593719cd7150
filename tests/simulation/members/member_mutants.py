"""Bugs of several processes that share a pipeline, planted one at a time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from dyncdc.model.checkpoints import Checkpoint, Proof
from dyncdc.model.members import Member
from dyncdc.model.shards import Shard, ShardId, SourceId
from dyncdc.pipeline.members.assignment import Assignment
from dyncdc.pipeline.members.peers import Peers
from dyncdc.pipeline.reading import shard_release
from dyncdc.pipeline.reading.completeness import Completeness
from dyncdc.pipeline.reading.lineage import ready
from dyncdc.pipeline.reading.shard_release import ShardRelease
from dyncdc.pipeline.snapshot.load import Loaded, SnapshotLoad
from simulation.fakes.clickhouse import CheckpointClient
from simulation.mutants.pipeline import Plant


def child_before_another_members_parent(patch: pytest.MonkeyPatch) -> None:
    """Only parents that this member reads itself are waited for."""
    release = ShardRelease.release

    def released(self: ShardRelease) -> None:
        def own_parents_only(listed: Any, finished: Any, running: Any, *, complete: bool) -> list[Shard]:
            others = {shard.id for shard in listed.values() if not self._listing.owns(shard)}
            return [shard for shard in ready(listed, {*finished, *others}, running, complete=complete)]

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(shard_release, "ready", own_parents_only)
            release(self)

    patch.setattr(ShardRelease, "release", released)


def complete_before_another_members_last_file(patch: pytest.MonkeyPatch) -> None:
    """A snapshot is taken for complete, and swept, when member 0 has read its own files."""

    def loaded(self: SnapshotLoad, source: SourceId, files: dict[ShardId, Shard], mine: list[Shard]) -> Loaded:
        done = self._progress.finished(source)
        finished = sum(1 for shard in mine if shard.id in done)
        return Loaded(finished + len(files) - len(mine), len(files), len(mine) - finished, ())

    patch.setattr(SnapshotLoad, "_loaded", loaded)


def divided_by_the_order_of_the_list(patch: pytest.MonkeyPatch) -> None:
    """A shard belongs to whom its place in the list falls to, as each process first saw it."""
    places: dict[int, dict[str, int]] = {}

    def owner(self: Assignment, source: SourceId, shard: ShardId) -> int:
        seen = places.setdefault(id(self), {})
        return seen.setdefault(shard, len(seen)) % self.members

    patch.setattr(Assignment, "owner", owner)


def every_epoch_counts(patch: pytest.MonkeyPatch) -> None:
    """A later start of any member looks like a take-over to all others."""
    original = CheckpointClient.proof

    async def proof(
        self: CheckpointClient, shards: Collection[tuple[SourceId, ShardId]], last: Checkpoint | None
    ) -> Proof:
        found = await original(self, shards, last)
        sources = {source for source, _ in shards}
        newest = max((row.epoch for row in self._server.checkpoints if row.source in sources), default=0)
        return replace(found, newest_epoch=newest)

    patch.setattr(CheckpointClient, "proof", proof)


def strays_welcome(patch: pytest.MonkeyPatch) -> None:
    """Members of another assignment are not looked for."""

    def none(self: Peers, seen: Any) -> list[Member]:
        return []

    patch.setattr(Peers, "foreign", none)


def covered_by_one_member(patch: pytest.MonkeyPatch) -> None:
    """An export is asked for as soon as member 0 has a position in each shard of its own."""
    patch.setattr(Completeness, "held_elsewhere", lambda self: True)


ALL: tuple[Plant, ...] = (
    child_before_another_members_parent,
    complete_before_another_members_last_file,
    divided_by_the_order_of_the_list,
    every_epoch_counts,
    strays_welcome,
    covered_by_one_member,
)
