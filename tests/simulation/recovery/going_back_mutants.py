"""Bugs planted one at a time where ClickHouse comes back older: lives over a server that goes back must notice each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dyncdc.model.checkpoints import Checkpoint, Mark, PastMark, Proof
from dyncdc.model.shards import Shard
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.checkpoint import session_start
from dyncdc.pipeline.checkpoint.checkpointer import Checkpointer
from dyncdc.pipeline.checkpoint.watermarks import Watermarks
from dyncdc.pipeline.reading import shard_release
from dyncdc.pipeline.recovery import rewind
from dyncdc.pipeline.recovery.rewind import Rewind
from dyncdc.pipeline.snapshot.load import SnapshotLoad

from .going_back import MortalCheckpoints


def saves_over_what_went_back(patch: pytest.MonkeyPatch) -> None:
    """No one compares what was saved last with what is there, nor the server with the one that took it."""
    proof = MortalCheckpoints.proof

    async def believed(self: MortalCheckpoints, shards: Any, last: Checkpoint | None) -> Proof:
        return Proof((await proof(self, shards, last)).newest_epoch)

    patch.setattr(MortalCheckpoints, "proof", believed)


def nothing_is_read_again(patch: pytest.MonkeyPatch) -> None:
    """A restart of the server is noticed, and reading goes on from the positions that are saved."""
    patch.setattr(session_start, "rewind", lambda rows, past, server, seconds: Rewind(server=server))


def finished_shards_are_not_read_again(patch: pytest.MonkeyPatch) -> None:
    """What was finished stays finished, however shortly before the server ended."""
    original = session_start.rewind

    def unfinished_only(rows: Sequence[Checkpoint], *others: Any) -> Rewind:
        return original([row for row in rows if not row.mark.finished], *others)

    patch.setattr(session_start, "rewind", unfinished_only)


def history_of_the_present(patch: pytest.MonkeyPatch) -> None:
    """The newest past mark is taken, whenever it was saved."""

    def newest(past: Sequence[PastMark], instant: float) -> Mark | None:
        return past[-1].mark if past else None

    patch.setattr(rewind, "_as_of", newest)


def children_before_parents_that_are_read_again(patch: pytest.MonkeyPatch) -> None:
    """Only the parents that were never finished are waited for."""
    ready = shard_release.ready

    def impatient(listed: Any, finished: Any, running: Any, *, complete: bool) -> list[Shard]:
        parents = {parent for shard in listed.values() for parent in shard.parents}
        again = {shard for shard in parents & listed.keys() if shard in READ_AGAIN}
        found = ready(listed, {*finished, *again}, running, complete=complete)
        return [*found, *(listed[shard] for shard in again - {*finished, *running})]

    original = Checkpointer.load

    async def load(self: Checkpointer) -> None:
        await original(self)
        READ_AGAIN.clear()
        READ_AGAIN.update(shard for _, shard in self.progress._reopened)

    patch.setattr(Checkpointer, "load", load)
    patch.setattr(shard_release, "ready", impatient)


READ_AGAIN: set[str] = set()


def snapshots_stay_complete(patch: pytest.MonkeyPatch) -> None:
    """A snapshot that was complete is complete, whatever became of its files and of what it has swept."""

    def believed(self: SnapshotLoad, snapshot: Snapshot) -> Snapshot:
        return snapshot

    patch.setattr(SnapshotLoad, "checked", believed)


def watermarks_stay(patch: pytest.MonkeyPatch) -> None:
    """What was complete once stays so, though it is read again."""

    async def nothing(self: Watermarks, rewind: Rewind) -> None:
        return None

    patch.setattr(Watermarks, "take_back", nothing)


Plant = Callable[[pytest.MonkeyPatch], None]
ALL: tuple[Plant, ...] = (
    saves_over_what_went_back,
    nothing_is_read_again,
    finished_shards_are_not_read_again,
    history_of_the_present,
    children_before_parents_that_are_read_again,
    snapshots_stay_complete,
    watermarks_stay,
)
