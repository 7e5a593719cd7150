"""Isolation: whatever is refused, good rows arrive, bad ones are named, and a table that takes nothing names none."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from support.pipeline.pipeline_parts import block, values
from support.pipeline.virtual_time import run

from dyncdc.errors import RefusedError, RejectedRowsError
from dyncdc.model.blocks import Block
from dyncdc.pipeline.writing.batch import collapse, join
from dyncdc.pipeline.writing.isolation import Isolation, Row

KINDS = st.sampled_from(["good", "good", "good", "table", "odd", "view", "odd view"])
"""What becomes of a row: taken; refused by the table, or its view, by a code for rows or by another one."""
ROWS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 3), KINDS), min_size=1, max_size=12)
BLOCKS = st.lists(ROWS, min_size=1, max_size=4)


class Server:
    """A table with a view. Of equal versions the one that was inserted last wins."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.table: dict[str, tuple[int, str]] = {}
        self.view: set[str] = set()
        self.tokens: dict[str, list[tuple[str, str]]] = {}
        self.inserts = 0

    async def __call__(self, found: Block, token: str, *, past_views: bool) -> None:
        rows = values(found)
        assert self.tokens.setdefault(token, rows) == rows, "a token is of one set of rows"
        self.inserts += 1
        kinds = {value.partition("/")[0] for _, value in rows}
        if self.away or "odd" in kinds:
            raise RefusedError("divided by zero")
        if "table" in kinds:
            raise RejectedRowsError("cannot be parsed")
        for (key, value), version in zip(rows, found.versions, strict=True):  # before its views, as ClickHouse does
            if version >= self.table.get(key, (0, ""))[0]:
                self.table[key] = (version, value)
        if "view" in kinds and not past_views:
            raise RejectedRowsError("the view cannot parse it")
        if "odd view" in kinds and not past_views:
            raise RefusedError("the view divides by zero")
        if not past_views:
            self.view.update(value for _, value in rows)


def numbered(groups: Sequence[Sequence[tuple[str, int, str]]]) -> list[Block]:
    """Blocks whose values tell which row they are of."""
    numbers = itertools.count()
    return [block("t", *((key, version, f"{kind}/{next(numbers)}") for key, version, kind in rows)) for rows in groups]


async def settle(blocks: list[Block], server: Server, *, rounds: int = 6) -> tuple[list[str], list[Block]]:
    """Do as the writer does. Return the values of the rows that were refused, and the blocks that are left."""
    refused: list[str] = []
    tokens = (str(number) for number in itertools.count())
    for _ in range(rounds):
        if not blocks:
            break
        token = next(tokens)
        try:
            await server(join(collapse(blocks)), token, past_views=False)
        except (RefusedError, RejectedRowsError) as error:
            here = blocks

            def on_refused(row: Row, error: RejectedRowsError, here: list[Block] = here) -> None:
                refused.append(values(here[row[0]])[row[1]][1])

            isolation = Isolation(blocks, tokens, server, on_taken=lambda _: None, on_refused=on_refused)
            await isolation.run(token, error)
            blocks = [found for _, found in isolation.left()]
        else:
            blocks = []
    return refused, blocks


@given(BLOCKS)
def test_good_rows_arrive_in_their_order_and_bad_ones_are_named(groups: list[list[tuple[str, int, str]]]) -> None:
    blocks, server = numbered(groups), Server()
    refused, left = run(settle(list(blocks), server))
    rows = [
        (key, version, value)
        for found in blocks
        for (key, value), version in zip(values(found), found.versions, strict=True)
    ]
    want: dict[str, tuple[int, str]] = {}
    for key, version, value in rows:
        if value.partition("/")[0] not in ("table", "odd") and version >= want.get(key, (0, ""))[0]:
            want[key] = (version, value)
    for value in refused:
        assert not value.startswith("good")
    waiting = {value for found in left for _, value in values(found)}
    for key, _, value in rows:
        if value.startswith("table") and key not in want:
            assert value in refused or value in waiting
    if left:
        last = [value for found in collapse(left) for _, value in values(found)]
        assert not any(value.startswith("good") for value in last), "only what is refused alike waits"
    else:
        assert server.table == want, "of equal versions the last delivered one"
        assert {value for _, value in server.table.values()} <= server.view | set(refused), "nothing is missing unsaid"


@given(BLOCKS)
def test_an_outage_names_no_row_whatever_its_code(groups: list[list[tuple[str, int, str]]]) -> None:
    blocks, server = numbered(groups), Server(away=True)
    refused, left = run(settle(list(blocks), server))
    assert refused == []
    assert left == blocks
    assert server.inserts <= 6 * 9
