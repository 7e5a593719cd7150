"""Blocks between decode and insert: collapsed, joined into statements, cut in halves."""

from __future__ import annotations

from collections import deque

from pipeline_parts import block, values

from dyncdc.model import Block
from dyncdc.pipeline.batch import collapse, join, split, statement, take


def test_o1_the_greater_version_of_a_key_survives_whatever_the_order() -> None:
    found = collapse([block("t", ("a", 2, "new"), ("b", 1, "b")), block("t", ("a", 1, "old"))])
    assert [values(x) for x in found] == [[("a", "new"), ("b", "b")]]


def test_o3_among_equal_versions_the_last_delivered_survives() -> None:
    found = collapse([block("t", ("a", 1, "first"), ("a", 1, "second")), block("t", ("a", 1, "third"))])
    assert [values(x) for x in found] == [[("a", "third")]]


def test_blocks_without_repeats_are_passed_on_untouched() -> None:
    blocks = [block("t", ("a", 1, "1")), block("t", ("b", 1, "2"))]
    assert all(one is other for one, other in zip(collapse(blocks), blocks, strict=True))


def test_rows_without_keys_are_never_collapsed() -> None:
    letters = Block("dead", ("id",), [b'"x","x"'], 2)
    assert collapse([letters, letters]) == [letters, letters]


def test_a_row_keeps_its_exact_text() -> None:
    odd = Block("t", ("a", "b"), ['"12345678901234567890.10","ü\\u0000",null'.encode(), b'[1,2],{"x":1},"]"'], 3)
    assert take(odd, [0, 2]).cells == [b'"12345678901234567890.10",null', b'[1,2],"]"']


def test_joined_blocks_are_all_rows_in_delivery_order() -> None:
    joined = join([block("t", ("a", 1, "1")), block("t", ("b", 2, "2"), ("c", 3, "3"))])
    assert values(joined) == [("a", "1"), ("b", "2"), ("c", "3")]
    assert (joined.rows, joined.keys, joined.versions) == (3, [b"a", b"b", b"c"], [1, 2, 3])


def test_several_blocks_are_split_between_blocks_and_a_single_one_between_rows() -> None:
    one, two, three = (block("t", (key, 1, key)) for key in "abc")
    left, right = split([(one, 1), (two, 2), (three, 3)])
    assert (left, right) == ([(one, 1)], [(two, 2), (three, 3)])
    ((upper, tag),), ((lower, other),) = split([(block("t", ("a", 1, "1"), ("b", 2, "2"), ("c", 3, "3")), 7)])
    assert (values(upper), values(lower), tag, other) == ([("a", "1")], [("b", "2"), ("c", "3")], 7, 7)


def test_a_statement_takes_what_fits_and_holds_nothing_else() -> None:
    parts = deque((block("t", size=1_000), number) for number in range(5))
    taken = statement(parts, 2_500)
    assert [number for _, number in taken] == [0, 1]
    assert [number for _, number in parts] == [2, 3, 4]


def test_a_block_beyond_the_limit_goes_alone() -> None:
    parts = deque([(block("t", size=9_000), 0), (block("t", size=1), 1)])
    assert [number for _, number in statement(parts, 2_500)] == [0]


def test_a_statement_has_one_list_of_columns() -> None:
    parts = deque([(block("t"), 0), (Block("t", ("key",), [b'"a"'], 1, [b"a"], [1]), 1), (block("t"), 2)])
    assert [[number for _, number in statement(parts, 10**6)] for _ in range(3)] == [[0], [1], [2]]


def test_rows_keep_the_positions_of_their_records_wherever_they_go() -> None:
    blocks = [block("t", ("a", 1, "1"), ("b", 1, "2")), block("t", ("a", 2, "3"))]
    for found, positions in zip(blocks, (b'"7","8"', b'"9"'), strict=True):
        found.positions = positions
    assert join(collapse(blocks)).positions == b'"8","9"'
    halves = split([(blocks[0], "receipt")])
    assert [part.positions for half in halves for part, _ in half] == [b'"7"', b'"8"']
    assert blocks[1].nbytes == block("t", ("a", 2, "3")).nbytes + 3
