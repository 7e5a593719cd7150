"""Bugs planted one at a time where replicas lose parts and no restart tells: who comes after must read all again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from dyncdc.model.checkpoints import Rollback
from dyncdc.pipeline.checkpoint.proof import DurabilityProof
from simulation.fakes.clickhouse import CheckpointClient


def rollback_known_to_its_process_alone(patch: pytest.MonkeyPatch) -> None:
    """That ClickHouse went back is in the memory of the process that noticed, and ends with it."""

    async def noticed(self: DurabilityProof) -> None:
        raise self._noticed("rolled_back", "it went back")

    patch.setattr(DurabilityProof, "_rolled_back", noticed)


def rollback_done_with_after_one_start(patch: pytest.MonkeyPatch) -> None:
    """Whoever has begun on what there is has done with it, though it saved nothing."""
    original = CheckpointClient.rollbacks

    async def once(self: CheckpointClient) -> Sequence[Rollback]:
        found = await original(self)
        self._server.rollbacks.clear()
        return found

    patch.setattr(CheckpointClient, "rollbacks", once)


Plant = Callable[[pytest.MonkeyPatch], None]
ALL: tuple[Plant, ...] = (rollback_known_to_its_process_alone, rollback_done_with_after_one_start)
