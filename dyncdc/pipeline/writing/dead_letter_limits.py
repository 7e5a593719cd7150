"""How many records may become dead letters before the setup is at fault and not the data. Pure.

Asked before anything is handed over, so past a limit nothing more is diverted. What stopped a session is kept, as
a ``LimitStop``: the next session counts from nothing, but stops at the same record with the same words, until that
record becomes a row (the cause is fixed) or the limit is raised.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from dyncdc.errors import FatalError
from dyncdc.model.blocks import DeadLetter
from dyncdc.model.shards import Position, Shard, ShardId, SourceId

WINDOW_RECORDS: Final = 10_000
"""``max_ratio`` is of so many records, the last ones of all shards together. Source: CONTRACT, [dead_letters]."""

Place = tuple[SourceId, ShardId, Position]
"""Where a record is."""

Limit = Literal["max_ratio", "max_consecutive"]


@dataclass(frozen=True, slots=True)
class DeadLetterLimits:
    """``max_ratio`` of the last ``WINDOW_RECORDS`` records, and how many in a row, of one shard or into one table."""

    max_ratio: float = 1.0
    max_consecutive: int = sys.maxsize


@dataclass(frozen=True, slots=True)
class LimitStop:
    """Why a session stopped diverting, and at which record. ``value``: the limit that was in force."""

    id: str
    limit: Limit
    value: float
    message: str
    source: SourceId
    shard: ShardId
    position: Position
    table: str
    column: str = ""
    refused: bool = False
    """Whether ClickHouse refused the record's row; else it could not be decoded."""

    @property
    def place(self) -> Place:
        """Where the record is that was not diverted any more."""
        return self.source, self.shard, self.position

    def stands(self, limits: DeadLetterLimits) -> bool:
        """Whether no one has raised the limit since."""
        return self.value >= float(getattr(limits, self.limit))


class LimitReached(FatalError):
    """Too many dead letters. ``stop`` is new unless ``again``, when an earlier session has kept it."""

    def __init__(self, stop: LimitStop, *, again: bool) -> None:
        hint = f"fix the cause (`dyncdc dead-letters list` shows what was diverted) or raise dead_letters.{stop.limit}"
        super().__init__(stop.message, hint=hint)
        self.stop = stop
        self.again = again


@dataclass(slots=True)
class _Window:
    """The last ``WINDOW_RECORDS`` records: 1 for each that was diverted."""

    ring: bytearray = field(default_factory=lambda: bytearray(WINDOW_RECORDS))
    at: int = 0
    seen: int = 0
    diverted: int = 0

    def pass_by(self, records: int) -> None:
        """Add records that became rows."""
        self.seen += records
        if records >= WINDOW_RECORDS:
            self.ring, self.diverted = bytearray(WINDOW_RECORDS), 0
        while records and self.diverted:
            step = min(records, WINDOW_RECORDS - self.at)
            self.diverted -= self.ring.count(1, self.at, self.at + step)
            self.ring[self.at : self.at + step] = bytes(step)
            self.at, records = (self.at + step) % WINDOW_RECORDS, records - step
        self.at = (self.at + records) % WINDOW_RECORDS

    def divert(self) -> None:
        """Add one that was diverted."""
        self.seen += 1
        self.diverted += 1 - self.ring[self.at]
        self.ring[self.at] = 1
        self.at = (self.at + 1) % WINDOW_RECORDS

    def turn(self) -> None:
        """Take one for diverted that was added as a row."""
        found = self.ring.rfind(0)
        if found >= 0:
            self.ring[found] = 1
            self.diverted += 1


class DeadLetterLimiter:
    """The counts of one session. ``stops``: what earlier sessions have stopped at and no one has closed."""

    def __init__(
        self,
        limits: DeadLetterLimits | None = None,
        stops: Iterable[LimitStop] = (),
        *,
        on_passed: Callable[[LimitStop], None] = lambda _: None,
    ) -> None:
        self._limits = limits or DeadLetterLimits()
        self._on_passed = on_passed
        self._window = _Window()
        self._runs: dict[tuple[SourceId, ShardId] | str, int] = {}
        self.stops = {stop.place: stop for stop in stops if stop.stands(self._limits)}
        """Those that still stand. One whose record has become a row leaves, and ``on_passed`` is told."""

    def count_decoded(
        self, shard: Shard, judged: int, rejected: Sequence[DeadLetter], positions: Sequence[Position]
    ) -> None:
        """Count what became of a chunk, before it is handed over. ``positions``: of all its records.

        Raises LimitReached; then nothing of the chunk may be handed over.
        """
        lane = (shard.source, shard.id)
        run, expected = self._runs.get(lane, 0), 0
        for dead_letter in rejected:
            known = self.stops.get((*lane, dead_letter.position))
            if known is not None and not known.refused:
                raise LimitReached(known, again=True)
            self._window.pass_by(dead_letter.ordinal - expected)
            self._window.divert()
            run = run + 1 if dead_letter.ordinal == expected else 1
            expected = dead_letter.ordinal + 1
            if run > self._limits.max_consecutive:
                raise self._reached("max_consecutive", dead_letter, shard, rejected[0].position)
        self._window.pass_by(judged - expected)
        self._runs[lane] = run if judged == expected else 0
        if rejected and self._too_many():
            raise self._reached("max_ratio", rejected[-1], shard, rejected[0].position)
        for stop in [stop for stop in self.stops.values() if (stop.source, stop.shard) == lane and not stop.refused]:
            if stop.position in positions:
                self._passed(stop)

    def count_rejected(
        self, destination: str, shard: Shard, dead_letter: DeadLetter, first: tuple[Shard, Position]
    ) -> None:
        """Count a row that ClickHouse refuses, before its dead letter is written. Raises LimitReached.

        ``first``: where the first refused row of the same statement was read; no dead letter of it is written yet
        either.
        """
        known = self.stops.get((shard.source, shard.id, dead_letter.position))
        if known is not None and known.refused:
            raise LimitReached(known, again=True)
        self._window.turn()
        run = self._runs[destination] = self._runs.get(destination, 0) + 1
        if run > self._limits.max_consecutive:
            raise self._reached("max_consecutive", dead_letter, *first, refused=True)
        if self._too_many():
            raise self._reached("max_ratio", dead_letter, *first, refused=True)

    def count_accepted(self, destination: str, rows: Iterable[tuple[Shard, bytes]]) -> None:
        """Note that ClickHouse has taken rows. ``rows``: by shard, their positions as JSON texts."""
        self._runs.pop(destination, None)
        waiting = [stop for stop in self.stops.values() if stop.refused]
        for shard, positions in rows if waiting else ():
            for stop in waiting:
                here = (shard.source, shard.id) == (stop.source, stop.shard)
                if here and b'"%b"' % stop.position.encode() in positions:
                    self._passed(stop)

    def _passed(self, stop: LimitStop) -> None:
        if self.stops.pop(stop.place, None) is not None:
            self._on_passed(stop)

    def _too_many(self) -> bool:
        window = self._window
        return window.seen >= WINDOW_RECORDS and window.diverted > self._limits.max_ratio * WINDOW_RECORDS

    def _reached(
        self, limit: Limit, dead_letter: DeadLetter, shard: Shard, position: Position, *, refused: bool = False
    ) -> LimitReached:
        value = float(getattr(self._limits, limit))
        much = (
            f"{value:,.0f} in a row"
            if limit == "max_consecutive"
            else f"{value:.4g} of the last {WINDOW_RECORDS:,} records"
        )
        message = (
            f"diverting records of {dead_letter.table or 'a table that they do not name'} to the dead letters: it would"
            f" be more than {much}, from position {position} of shard {shard.id} on;"
            f" the reason is {dead_letter.reason}{f' in column {dead_letter.column}' if dead_letter.column else ''}"
        )
        found = LimitStop(
            uuid.uuid4().hex,
            limit,
            value,
            message,
            shard.source,
            shard.id,
            position,
            dead_letter.table,
            dead_letter.column,
            refused,
        )
        return LimitReached(found, again=False)
