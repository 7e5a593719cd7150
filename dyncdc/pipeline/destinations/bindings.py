"""Bindings: the ClickHouse table that each DynamoDB table is replicated to, and the protocol of their store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Target:
    """A DynamoDB table and the ClickHouse table that its rows go to.

    ``table`` and ``destination`` are names, which others can take over; ``table_id`` ("" if DynamoDB does not say) and
    ``uuid`` are what cannot. ``hazards``: what the definition held as it was found safe, see DestinationState.
    """

    table: str
    destination: str
    uuid: str
    arn: str = ""
    table_id: str = ""
    hazards: str = ""


@dataclass(frozen=True, slots=True)
class DestinationContents:
    """What a destination held at some time: the greatest block number of each partition, how many rows in all.

    ``live``: a reader found an item, and not nothing or tombstones alone.
    """

    blocks: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0
    live: bool = False


@dataclass(frozen=True, slots=True)
class Binding:
    """One row of ``dyncdc_destinations``: from ``since`` on (seconds) changes of a table were written to a destination.

    Until the table's next row, that is: ``number`` grows with every row of any pipeline. ``held`` when ``saved_at``.
    """

    pipeline: str
    target: Target
    number: int
    since: float
    held: DestinationContents = DestinationContents()
    revision: int = 0
    saved_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Partition:
    """The parts of one partition that hold rows: the range of their block numbers, which merges do not change."""

    first: int
    last: int
    rows: int


@dataclass(frozen=True, slots=True)
class DestinationState:
    """A destination as ClickHouse shows it ``at`` a time (seconds, its own clock). ``uuid`` "": there is none now.

    ``cleaned``: tombstones of it have been cleaned up. ``detached``: it is there, and waits for ATTACH TABLE.
    ``hazards``: what its definition holds that takes rows away, in words that change with it. ``blind``: we may not see
    its parts.
    """

    uuid: str
    at: float
    partitions: Mapping[str, Partition] = field(default_factory=dict)
    cleaned: bool = False
    detached: bool = False
    hazards: str = ""
    blind: bool = False


class DestinationStore(Protocol):
    """``dyncdc_destinations``, and the destinations themselves. Every call raises RetryableError, FatalError."""

    async def bindings(self) -> Sequence[Binding]:
        """Every row of every pipeline, the first one first."""

    async def save_bindings(self, rows: Sequence[Binding]) -> None:
        """Append rows; ``saved_at`` is the store's own."""

    async def read_state(self, destinations: Collection[str]) -> Mapping[str, DestinationState]:
        """How each destination, by ClickHouse's name, is now."""

    async def caught_up(self, destination: str) -> bool:
        """Whether the server that answers has all rows that any replica has acknowledged."""

    async def any_live(self, destination: str) -> bool:
        """Whether a reader would find any item."""
