"""At which dead-letter limits sessions have stopped: kept among the dead letters, until their records become rows."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dyncdc.errors import FatalError
from dyncdc.model.shards import Position, ShardId, SourceId
from dyncdc.pipeline.writing.dead_letter_limits import Limit, LimitStop
from dyncdc.schema.types.reject_reasons import LIMIT_REACHED

from .store import ClickHouseDeadLetters, StoredDeadLetter


class _Raw(msgspec.Struct):
    """What a limit stop has in the place of a record."""

    limit: Limit
    value: float
    refused: bool


class ClickHouseLimitStops:
    """Implements ``LimitStopStore``. Raises what ClickHouse's calls raise."""

    def __init__(self, dead_letters: ClickHouseDeadLetters) -> None:
        self._dead_letters = dead_letters

    async def open_limit_stops(self) -> Sequence[LimitStop]:
        """What earlier sessions have stopped at and no one has closed."""
        found = await self._dead_letters.find(reason=LIMIT_REACHED, with_raw=True)
        return [_limit_stop(dead_letter) for dead_letter in found]

    async def save_limit_stop(self, halt: LimitStop) -> None:
        """Keep what a session has stopped at."""
        await self._dead_letters.append(_dead_letter(halt), "keeping why dyncdc stops")

    async def close_limit_stop(self, halt: LimitStop) -> None:
        """Mark one as done with."""
        await self._dead_letters.close([halt.id])


def _dead_letter(halt: LimitStop) -> StoredDeadLetter:
    return StoredDeadLetter(
        id=halt.id,
        table=halt.table,
        reason=LIMIT_REACHED,
        column=halt.column,
        error=halt.message,
        source=halt.source,
        shard=halt.shard,
        position=halt.position,
        received_at=0.0,
        replayed_at=None,
        raw=msgspec.json.encode(_Raw(halt.limit, halt.value, halt.refused)),
    )


def _limit_stop(dead_letter: StoredDeadLetter) -> LimitStop:
    try:
        raw = msgspec.json.decode(dead_letter.raw or b"", type=_Raw)
    except msgspec.MsgspecError:
        raise FatalError(
            f"reading dead letter {dead_letter.id}: it says that a limit was reached, and not which",
            hint=f"it was edited; drop it: `dyncdc dead-letters drop {dead_letter.id}`",
        ) from None
    return LimitStop(
        id=dead_letter.id,
        limit=raw.limit,
        value=raw.value,
        message=dead_letter.error,
        source=SourceId(dead_letter.source),
        shard=ShardId(dead_letter.shard),
        position=Position(dead_letter.position),
        table=dead_letter.table,
        column=dead_letter.column,
        refused=raw.refused,
    )
