"""Bugs in how refused rows are told from a table, or a server, that takes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dyncdc.errors import RefusedError
from dyncdc.model.blocks import Block
from dyncdc.pipeline.writing import statements
from dyncdc.pipeline.writing.batch import take
from dyncdc.pipeline.writing.isolation import Isolation

Plant = Callable[[pytest.MonkeyPatch], None]


def letters_made_in_an_outage(patch: pytest.MonkeyPatch) -> None:
    """A row that is refused alone is to blame, though nothing else is taken either."""
    original = Isolation._judge

    async def judge(self: Isolation, row: Any, token: str, error: Any) -> None:
        if isinstance(error, RefusedError):
            self._refuse(row, error)
        else:
            await original(self, row, token, error)

    patch.setattr(Isolation, "_judge", judge)


def parts_sent_under_the_token_of_the_whole(patch: pytest.MonkeyPatch) -> None:
    """A divided statement goes on with its token."""
    patch.setattr(statements, "_below", itertools.repeat)


def replaced_rows_sent_after_those_that_replace_them(patch: pytest.MonkeyPatch) -> None:
    """Rows that a taken row has replaced are sent later, with the rest."""

    def left(self: Isolation) -> Iterator[tuple[int, Block]]:
        done = self._taken | self._refused
        for number, block in enumerate(self._blocks):
            rows = [row for row in range(block.rows) if (number, row) not in done]
            if rows:
                yield number, take(block, rows)

    patch.setattr(Isolation, "left", left)


def undecided_rows_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What could be neither sent nor blamed is left out."""
    patch.setattr(Isolation, "left", lambda self: iter(()))


ALL: tuple[Plant, ...] = (
    letters_made_in_an_outage,
    parts_sent_under_the_token_of_the_whole,
    replaced_rows_sent_after_those_that_replace_them,
    undecided_rows_forgotten,
)
