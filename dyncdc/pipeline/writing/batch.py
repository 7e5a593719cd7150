"""What happens to blocks between decode and insert. Pure.

They are joined into statements, repeated keys are collapsed, and bad rows can be cut out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from dyncdc.model.blocks import Block
from dyncdc.schema.types.encodings import dump_cells, load_cells

T = TypeVar("T")

MOST_PARTS = 4
"""Statements that one block may become; each makes a part on the server's disk."""
"""What travels with a block."""


def collapse(blocks: Sequence[Block]) -> list[Block]:
    """Drop rows whose key comes again with an equal or greater version.

    Delivery order breaks ties, as it does in ClickHouse (the row inserted last wins), so the surviving rows tell the
    same truth. Blocks without keys, and blocks in which nothing repeats, are passed on untouched.
    """
    keys = [block.keys for block in blocks]
    if len(set().union(*keys)) == sum(map(len, keys)):  # mostly, and ten times as cheap as telling the winners
        return list(blocks)
    keep: list[list[int]] = [[] for _ in blocks]
    for number, row in winners(blocks):
        keep[number].append(row)
    return [
        block if not block.keys or len(rows) == block.rows else take(block, rows)
        for block, rows in zip(blocks, keep, strict=True)
        if rows or not block.keys
    ]


def winners(blocks: Sequence[Block]) -> list[tuple[int, int]]:
    """Return (block, row) of all rows but those that ``collapse`` drops, in order."""
    best: dict[bytes, tuple[int, int, int]] = {}
    found: list[tuple[int, int]] = []
    for number, block in enumerate(blocks):
        if not block.keys:
            found += ((number, row) for row in range(block.rows))
        for row, (key, version) in enumerate(zip(block.keys, block.versions, strict=True)):
            before = best.get(key)
            if before is None or version >= before[0]:
                best[key] = (version, number, row)
    found += ((number, row) for _, number, row in best.values())
    return sorted(found)


def take(block: Block, rows: Sequence[int]) -> Block:
    """Return a block of the given rows only, in the given order."""
    if len(rows) == block.rows:
        return block
    return Block(
        block.table,
        block.columns,
        [_take(cell, rows) for cell in block.cells],
        len(rows),
        [block.keys[row] for row in rows] if block.keys else [],
        [block.versions[row] for row in rows] if block.versions else [],
        _take(block.positions, rows) if block.positions else b"",
        optional=block.optional,
    )


def _take(cell: bytes, rows: Sequence[int]) -> bytes:
    values = load_cells(cell)
    return dump_cells([values[row] for row in rows])


def join(blocks: Sequence[Block]) -> Block:
    """Return one block of all rows. All blocks have the same table and columns."""
    first = blocks[0]
    if len(blocks) == 1:
        return first
    return Block(
        first.table,
        first.columns,
        [b",".join(column) for column in zip(*(block.cells for block in blocks), strict=True)],
        sum(block.rows for block in blocks),
        [key for block in blocks for key in block.keys],
        [version for block in blocks for version in block.versions],
        b",".join(block.positions for block in blocks) if first.positions else b"",
        optional=tuple(dict.fromkeys(name for block in blocks for name in block.optional)),
    )


def by_presence(block: Block) -> list[Block] | None:
    """Divide a block by which of its optional columns its rows have; each part has only those, in the same order.

    None when that takes more than ``MOST_PARTS``: of a dozen such columns almost every row has others.
    """
    nulls = {name: _nulls(block.cells[block.columns.index(name)], block.rows) for name in block.optional}
    if not any(map(any, nulls.values())):
        return [block]
    groups: dict[tuple[str, ...], list[int]] = {}
    for row in range(block.rows):
        groups.setdefault(tuple(name for name, absent in nulls.items() if absent[row]), []).append(row)
        if len(groups) > MOST_PARTS:
            return None
    return [_without(block if len(rows) == block.rows else take(block, rows), left) for left, rows in groups.items()]


def _nulls(cell: bytes, rows: int) -> list[bool]:
    return [value is None for value in load_cells(cell)] if b"null" in cell else [False] * rows


def _without(block: Block, left: tuple[str, ...]) -> Block:
    kept = [(name, cell) for name, cell in zip(block.columns, block.cells, strict=True) if name not in left]
    return replace(block, columns=tuple(name for name, _ in kept), cells=[cell for _, cell in kept], optional=())


def statement(parts: deque[tuple[Block, T]], max_bytes: int) -> list[tuple[Block, T]]:
    """Take from the front what makes one statement: blocks of equal columns, at most ``max_bytes`` of cells.

    A single block beyond the limit is taken alone: the decoder keeps blocks far smaller than a statement. What was
    taken is gone from ``parts``, so that no one holds it when it is durable.
    """
    group: list[tuple[Block, T]] = []
    held = 0
    while parts:
        block = parts[0][0]
        size = sum(map(len, block.cells))
        if group and (held + size > max_bytes or block.columns != group[0][0].columns):
            break
        group.append(parts.popleft())
        held += size
    return group
