"""Sessions that leave tables out, which can not be used for a while: their changes must arrive once they can.

The same pipeline, faults and judge as in ``simulate``. In each session but the last some tables of a stream are
left out of its decoder and of the snapshots.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pytest

from dyncdc.model.blocks import Block, Decoded
from dyncdc.model.shards import Position, Shard
from dyncdc.pipeline.session import session
from dyncdc.pipeline.session.services import SnapshotTask, StreamTask
from dyncdc.telemetry.metrics import Metrics
from simulation import simulate
from simulation.fakes.aws import StreamDecoder
from simulation.process_run import Life
from simulation.simulate import Simulation


class LeavingDecoder(StreamDecoder):
    """Counts the records of every table, and makes rows of those that can be used."""

    def __init__(self, tables: Collection[str], session: Life, unusable: Collection[str]) -> None:
        super().__init__([table for table in tables if table not in unusable], session)
        self._unusable = unusable

    def _decode(self, shard: Shard, pairs: Sequence[tuple[bytes, Position]]) -> Decoded:
        decoded = super()._decode(shard, pairs)
        decoded.records = {block.table: block.rows for block in decoded.blocks}
        decoded.blocks = list(self._usable(decoded.blocks))
        return decoded

    def _usable(self, blocks: Sequence[Block]) -> Iterator[Block]:
        return (block for block in blocks if block.table not in self._unusable)


def run(seed: int) -> Counter[str]:
    """Run one seed. Raises Violation."""
    rng = random.Random(f"left out of {seed}")
    counted: Counter[str] = Counter()
    live, process, run_session = simulate._live, simulate._process, session.run_session
    unusable: set[str] = set()

    async def leave_out(simulation: Simulation, end: str) -> None:
        unusable.clear()
        for stream in simulation.world.streams if end not in ("once", "converge") else ():
            names = sorted(stream.tables)
            unusable.update(rng.sample(names, rng.randrange(len(names))))
        counted["left out"] += len(unusable)
        await live(simulation, end)

    async def begin(
        simulation: Simulation, session: Life, draining: asyncio.Event, metrics: Metrics, **how: Any
    ) -> None:
        async def without(
            streams: Sequence[StreamTask], snapshots: Sequence[SnapshotTask], *rest: Any, **more: Any
        ) -> None:
            left = [
                StreamTask(
                    stream.source,
                    LeavingDecoder(stream.tables, session, unusable),
                    stream.tables,
                    unusable=unusable.intersection(stream.tables),
                )
                for stream in streams
            ]
            await run_session(left, [one for one in snapshots if one.plan.table not in unusable], *rest, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(simulate, "run_session", without)
            await process(simulation, session, draining, metrics, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "_live", leave_out)
        patch.setattr(simulate, "_process", begin)
        return simulate.run(seed) + counted
