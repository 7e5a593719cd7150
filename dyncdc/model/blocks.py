"""What is written: rows by column, dead letters, what decoding counted."""

from __future__ import annotations

from dataclasses import dataclass, field

from .shards import Position


@dataclass(slots=True)
class Block:
    """Rows of one destination table, already as JSON text by column, in delivery order.

    ``cells[i]`` holds the values of ``columns[i]`` as JSON values joined by commas, without brackets. Every value
    must survive ``orjson.loads`` and ``orjson.dumps`` unchanged, so numbers travel as quoted text unless they are
    small ints. ``keys`` (one canonical key per row) and ``versions`` let equal keys be collapsed; ``keys`` is empty for
    tables whose rows never replace each other (dead letters, history).
    """

    table: str
    columns: tuple[str, ...]
    cells: list[bytes]
    rows: int
    keys: list[bytes] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    positions: bytes = b""
    """Position of each row's own record, as ``cells``; empty where rows are not of records (dead letters)."""
    created: float = 0.0
    """Creation time of the newest change in it, in seconds since the epoch; 0 where that means nothing (snapshots)."""
    optional: tuple[str, ...] = ()
    """Columns with a DEFAULT of someone else's: a row with null there is inserted without the column."""

    ROW_OVERHEAD_BYTES = 96
    """What ``keys`` and ``versions`` cost beside their payload: object headers and list slots."""

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes: counted against the budget until the rows are durable."""
        held = sum(map(len, self.cells)) + sum(map(len, self.keys)) + len(self.positions)
        return held + self.rows * Block.ROW_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that became a dead letter. ``ordinal``: which it was among the records that had to become rows."""

    ordinal: int
    position: Position
    table: str
    reason: str
    column: str = ""


@dataclass(slots=True)
class Decoded:
    """What became of a sub-batch of records: blocks for the writer, and what there is to count (never per record)."""

    blocks: list[Block] = field(default_factory=list)
    records: dict[str, int] = field(default_factory=dict)
    """Records by DynamoDB table, unknown tables included."""
    spilled: dict[str, int] = field(default_factory=dict)
    """Values that went to the spill column, by DynamoDB table."""
    snapshot: bool = False
    """Whether the records came from a snapshot."""
    outside: dict[str, int] = field(default_factory=dict)
    """Attributes without a column, by DynamoDB table, where the destination has no spill column."""
    dead: dict[tuple[str, str], int] = field(default_factory=dict)
    """Dead letters by (DynamoDB table or "", reason)."""
    judged: int = 0
    """Records that had to become rows: those of configured tables, and those that do not name their table."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    """Which of them became dead letters instead, in order."""
