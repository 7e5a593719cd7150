"""``dyncdc dead-letters``: which records could not become rows, one of them whole, and closing them for good."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dyncdc.app.context import open_clickhouse
from dyncdc.app.startup_retry import StartupRetry, limited
from dyncdc.config import Config
from dyncdc.errors import ConfigError
from dyncdc.sinks.state.dead_letters.store import ClickHouseDeadLetters, StoredDeadLetter

SHORT_ID = 12
"""Digits of an id that a list shows. Any beginning that only one dead letter has will do where an id is wanted."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Some dead letters, newest first, without their records; ``open`` is how many are open in all."""

    dead_letters: Sequence[StoredDeadLetter]
    open: int


class DeadLetterReader:
    """The dead letters of one pipeline, for one command."""

    def __init__(self, store: ClickHouseDeadLetters, startup_retry: StartupRetry) -> None:
        self._store = store
        self._startup_retry = startup_retry

    async def list(self, *, table: str | None, closed: bool, limit: int) -> Listed:
        """List dead letters; with ``closed`` those too that were replayed or dropped."""
        dead_letters = await self._startup_retry(
            lambda: self._store.find(table=table, only_open=not closed, limit=limit)
        )
        return Listed(dead_letters, await self._startup_retry(lambda: self._store.count_open(table=table)))

    async def show(self, given: str) -> StoredDeadLetter:
        """One dead letter with its record. Raises ConfigError when none, or more than one, begins with ``given``."""
        return await self._one(given, with_raw=True)

    async def select(self, given: Sequence[str], *, table: str | None) -> Sequence[StoredDeadLetter]:
        """The dead letters meant by ids, or all open ones, or those of one table. Raises ConfigError."""
        if given:
            found = {dead_letter.id: dead_letter for dead_letter in [await self._one(each) for each in given]}
            of_others = [
                dead_letter.id for dead_letter in found.values() if table is not None and dead_letter.table != table
            ]
            if of_others:
                raise ConfigError(f"finding dead letter {of_others[0]}: it is not of table {table}")
            return list(found.values())
        return await self._startup_retry(lambda: self._store.find(table=table))

    async def drop(self, dead_letters: Sequence[StoredDeadLetter]) -> int:
        """Close dead letters for good, unreplayed; return how many of them were open."""
        ids = [dead_letter.id for dead_letter in dead_letters if dead_letter.replayed_at is None]
        await self._startup_retry(lambda: self._store.close(ids, dropped=True))
        return len(ids)

    async def forget(self, days: int) -> int:
        """Delete dead letters that were closed more than so many days ago; return how many."""
        return await self._startup_retry(lambda: self._store.forget_closed(days))

    async def _one(self, given: str, *, with_raw: bool = False) -> StoredDeadLetter:
        if not given:
            raise ConfigError("finding a dead letter: its id is empty", hint="`dyncdc dead-letters list` shows ids")
        found = await self._startup_retry(
            lambda: self._store.find(prefix=given, only_open=False, limit=2, with_raw=with_raw)
        )
        if not found:
            raise ConfigError(
                f"finding dead letter {given}: this pipeline has none of that id",
                hint="`dyncdc dead-letters list --all` shows ids",
            )
        if len(found) > 1:
            raise ConfigError(f"finding dead letter {given}: several ids begin so", hint="give more of its digits")
        return found[0]


@asynccontextmanager
async def open_dead_letters(config: Config) -> AsyncIterator[DeadLetterReader]:
    """The dead letters of the configured pipeline. Raises ConfigError, FatalError."""
    with limited(config, "dead-letters") as startup_retry:
        async with open_clickhouse(config, startup_retry) as clickhouse:
            yield DeadLetterReader(ClickHouseDeadLetters(clickhouse, config.pipeline), startup_retry)
