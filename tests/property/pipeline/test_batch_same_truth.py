"""Collapsing and splitting never change what ClickHouse would show."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from support.pipeline.pipeline_parts import block, values

from dyncdc.model.blocks import Block
from dyncdc.pipeline.writing.batch import collapse, join, statement

Rows = list[tuple[str, int, str]]
ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 3), st.text(max_size=3)), min_size=1, max_size=6)
BLOCKS = st.lists(ROWS, min_size=1, max_size=6)


def final(blocks: Iterable[Block]) -> dict[str, tuple[int, str]]:
    """Read with FINAL: the greatest version, and among equals the row inserted last."""
    winners: dict[str, tuple[int, str]] = {}
    for found in blocks:
        for (key, value), version in zip(values(found), found.versions, strict=True):
            if key not in winners or version >= winners[key][0]:
                winners[key] = version, value
    return winners


@given(BLOCKS)
def test_a_collapsed_batch_shows_the_same_rows_one_per_key(rows: list[Rows]) -> None:
    blocks = [block("t", *group) for group in rows]
    joined = join(collapse(blocks))
    assert final([joined]) == final(blocks)
    assert len(joined.keys) == len(set(joined.keys)) == joined.rows


@given(BLOCKS, st.integers(1, 200))
def test_statements_are_all_blocks_in_order_within_the_limit(rows: list[Rows], limit_bytes: int) -> None:
    blocks = [block("t", *group) for group in rows]
    parts = deque((found, number) for number, found in enumerate(blocks))
    order: list[int] = []
    while parts:
        taken = statement(parts, limit_bytes)
        size = sum(len(cells) for found, _ in taken for cells in found.cells)
        assert len(taken) == 1 or size <= limit_bytes
        order += [number for _, number in taken]
    assert order == list(range(len(blocks)))
