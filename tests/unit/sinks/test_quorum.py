"""How many replicas an insert waits for: a majority, none where there is one, or what the configuration says."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dyncdc.errors import AccessDeniedError
from dyncdc.sinks.client import quorum as module
from dyncdc.sinks.client.quorum import NO_QUORUM, Quorum

MAJORITY = {"insert_quorum": "auto", "insert_quorum_parallel": 1, "insert_quorum_timeout": 45_000}
INSERT = "INSERT INTO `orders` (`pk`) FORMAT JSONCompactColumns "


class Replicas:
    """Answers with what ``system.replicas`` shows."""

    def __init__(self, shown: list[tuple[int]] | Exception) -> None:
        self.shown = shown
        self.asked: list[str] = []

    async def __call__(self, sql: str) -> Sequence[Sequence[int]]:
        self.asked.append(sql)
        if isinstance(self.shown, Exception):
            raise self.shown
        return self.shown


@pytest.mark.parametrize("shown", [[(2,)], [(3,)], [(0,)], AccessDeniedError("no")])
async def test_a_majority_has_what_is_acknowledged_where_there_are_several_or_no_one_can_tell(
    shown: list[tuple[int]] | Exception,
) -> None:
    assert await Quorum(60).settings(INSERT, Replicas(shown)) == MAJORITY


@pytest.mark.parametrize("shown", [[], [(1,)]])
async def test_a_table_without_another_replica_waits_for_none(shown: list[tuple[int]]) -> None:
    assert await Quorum(60).settings(INSERT, Replicas(shown)) == NO_QUORUM


async def test_replicas_are_counted_once_for_a_while_and_again_after_a_missed_quorum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quorum, replicas, now = Quorum(60), Replicas([(2,)]), 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    for _ in range(3):
        assert await quorum.settings(INSERT, replicas) == MAJORITY
    assert len(replicas.asked) == 1
    replicas.shown = [(1,)]
    quorum.forget()
    assert await quorum.settings(INSERT, replicas) == NO_QUORUM
    replicas.shown = [(2,)]
    now += module.KNOWN_SECONDS + 1
    assert await quorum.settings(INSERT, replicas) == MAJORITY


async def test_what_cannot_be_told_is_asked_again() -> None:
    quorum, replicas = Quorum(60), Replicas([(0,)])
    await quorum.settings(INSERT, replicas)
    replicas.shown = [(1,)]
    assert await quorum.settings(INSERT, replicas) == NO_QUORUM


async def test_a_look_that_is_denied_is_not_asked_for_with_each_insert() -> None:
    """Catches: a statement that is refused in front of each insert, with the grants that a single server needs."""
    quorum, replicas = Quorum(60), Replicas(AccessDeniedError("no"))
    for _ in range(3):
        assert await quorum.settings(INSERT, replicas) == MAJORITY
    assert len(replicas.asked) == 1


async def test_the_configuration_decides_without_a_look() -> None:
    quorum, replicas = Quorum(60), Replicas([(2,)])
    quorum.wanted = "off"
    assert await quorum.settings(INSERT, replicas) == NO_QUORUM
    quorum.wanted = 3
    assert await quorum.settings(INSERT, replicas) == {**MAJORITY, "insert_quorum": 3}
    assert not replicas.asked


async def test_the_table_is_the_one_that_the_statement_names() -> None:
    replicas = Replicas([(2,)])
    quorum = Quorum(60)
    assert await quorum.settings("INSERT INTO `o\\`r\\'d.e\\n` (`pk`) ", replicas) == MAJORITY
    assert (
        await quorum.settings("INSERT INTO dyncdc_checkpoints (pipeline) FORMAT JSONEachRow {}", replicas) == MAJORITY
    )
    assert [sql.rpartition("table = ")[2] for sql in replicas.asked] == [r"'o\`r\'d.e\n'", "'dyncdc_checkpoints'"]
    for other in ("SELECT 1", "ALTER TABLE orders ADD COLUMN a String", "SYSTEM SYNC REPLICA orders"):
        assert await quorum.settings(other, replicas) == {}
    assert len(replicas.asked) == 2
