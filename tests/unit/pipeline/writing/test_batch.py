"""Blocks between decode and insert: collapsed, joined into statements, cut in halves."""

from __future__ import annotations

from collections import deque

from support.pipeline.pipeline_parts import block, values

from dyncdc.model.blocks import Block
from dyncdc.pipeline.writing.batch import MOST_PARTS, by_presence, collapse, join, statement, take


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
    dead_letters = Block("dead", ("id",), [b'"x","x"'], 2)
    assert collapse([dead_letters, dead_letters]) == [dead_letters, dead_letters]


def test_a_row_keeps_its_exact_text() -> None:
    odd = Block("t", ("a", "b"), ['"12345678901234567890.10","ü\\u0000",null'.encode(), b'[1,2],{"x":1},"]"'], 3)
    assert take(odd, [0, 2]).cells == [b'"12345678901234567890.10",null', b'[1,2],"]"']


def test_joined_blocks_are_all_rows_in_delivery_order() -> None:
    joined = join([block("t", ("a", 1, "1")), block("t", ("b", 2, "2"), ("c", 3, "3"))])
    assert values(joined) == [("a", "1"), ("b", "2"), ("c", "3")]
    assert (joined.rows, joined.keys, joined.versions) == (3, [b"a", b"b", b"c"], [1, 2, 3])


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
    assert [take(blocks[0], [row]).positions for row in (0, 1)] == [b'"7"', b'"8"']
    assert blocks[1].nbytes == block("t", ("a", 2, "3")).nbytes + 3


def test_rows_without_an_optional_column_are_inserted_without_it() -> None:
    whole = Block("t", ("id", "a", "b"), [b'"1","2","3"', b"null,7,null", b'null,null,"null"'], 3, optional=("a", "b"))
    parts = by_presence(whole)
    assert parts is not None
    assert [(part.columns, part.cells, part.rows) for part in parts] == [
        (("id",), [b'"1"'], 1),
        (("id", "a"), [b'"2"', b"7"], 1),
        (("id", "b"), [b'"3"', b'"null"'], 1),
    ]


def test_a_block_whose_optional_columns_are_all_there_is_passed_on_untouched() -> None:
    whole = Block("t", ("id", "a"), [b'"1"', b'"null"'], 1, optional=("a",))
    assert by_presence(whole) == [whole]
    (part,) = by_presence(whole) or ()
    assert part is whole


def test_a_block_of_many_kinds_of_rows_is_not_divided() -> None:
    flags = [b",".join(b"1" if row >> bit & 1 else b"null" for row in range(2**3)) for bit in range(3)]
    whole = Block("t", ("a", "b", "c"), flags, 2**3, optional=("a", "b", "c"))
    assert by_presence(take(whole, range(MOST_PARTS))) is not None
    assert by_presence(whole) is None


def test_what_is_optional_stays_so_in_halves_and_in_statements() -> None:
    one, other = (Block("t", ("a", "b"), [b"null", b"1"], 1, optional=(name,)) for name in "ab")
    assert join([one, other]).optional == ("a", "b")
    assert take(one, [0]).optional == ("a",)
