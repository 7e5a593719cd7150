"""How far shards are, and what the server that holds the checkpoints shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .shards import Position, ShardId, SourceId


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a shard is: everything up to ``position`` is durable."""

    position: Position
    read_until: float = 0.0
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One row of ``dyncdc_checkpoints``. The greater (epoch, ordinal) wins, but ``finished`` is sticky.

    ``reopened``: a shard that was finished is read again from ``mark`` on; from then on only
    rows of greater rank count. ``saved_at``: by the store's clock, 0 for a row that is not saved yet.
    """

    source: SourceId
    shard: ShardId
    mark: Mark
    epoch: int = 0
    ordinal: int = 0
    member: int = 0
    reopened: bool = False
    saved_at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class PastMark:
    """One row of ``dyncdc_checkpoint_history``: a mark that was durable at ``saved_at`` (seconds, the store's clock).

    ``begins``: reading began, or began again, at ``mark``: what older rows say of the shard may lie ahead of it.
    ``server``: the id of the server that took the row.
    """

    source: SourceId
    shard: ShardId
    mark: Mark
    epoch: int
    ordinal: int
    begins: bool = False
    server: str = ""
    saved_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Past:
    """The newest past marks of each shard, oldest first.

    ``last_before``: when the newest of all was saved that a server before this one took, a former process of the same
    included; 0 when there is none.
    """

    marks: Sequence[PastMark] = ()
    last_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Rollback:
    """A member has seen at ``noticed_at`` (the store's clock) that what it had been acknowledged is gone."""

    member: int
    noticed_at: float


@dataclass(frozen=True, slots=True)
class Server:
    """The server that holds the rows. ``id``: "" where any of several may answer for the same data.

    ``started_at``: when its process started, in seconds by its own clock; 0 where that says nothing about the data.
    """

    id: str = ""
    started_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Proof:
    """What a look at the checkpoints shows: the shards' greatest epoch, and whether our last save is held.

    ``started_at``: as of ``Server``.
    """

    newest_epoch: int
    held: bool = True
    started_at: float = 0.0
