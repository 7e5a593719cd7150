"""The watch over histories: what it tells, when, and what it leaves alone."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.pipeline.pipeline_parts import instruments_of
from support.pipeline.virtual_time import run

from dyncdc.errors import RetryableError
from dyncdc.pipeline.destinations.bindings import DestinationState, Partition
from dyncdc.pipeline.destinations.history_monitor import EMPTIED_HISTORY, OTHER_TABLE, HistoryMonitor, KeptHistory
from dyncdc.pipeline.destinations.schema_evolution import DestinationChangedError
from dyncdc.telemetry.task_health import TaskHealth

TWO = {"2025": Partition(1, 10, 100), "2026": Partition(1, 5, 50)}


class MemoryHistories:
    """One history."""

    def __init__(self) -> None:
        self.rows: list[KeptHistory] = []
        self.uuid = "u"
        self.partitions: Mapping[str, Partition] = TWO
        self.lagging = False
        self.blind = False
        self.answer: Exception | None = None

    async def kept(self) -> Sequence[KeptHistory]:
        return self.rows[-1:]

    async def keep(self, rows: Sequence[KeptHistory]) -> None:
        if self.answer is not None:
            raise self.answer
        self.rows += rows

    async def look(self, histories: Collection[str]) -> Mapping[str, DestinationState]:
        at = asyncio.get_running_loop().time()
        return {name: DestinationState(self.uuid, at, self.partitions, blind=self.blind) for name in histories}

    async def caught_up(self, history: str) -> bool:
        return not self.lagging


class Told(TaskHealth):
    """What was told."""

    def __init__(self) -> None:
        super().__init__()
        self.alarms: list[Any] = []

    def log_error(self, event: str, **keys: object) -> None:
        self.alarms.append(keys["reason"])


async def looked(store: MemoryHistories, told: Told, seconds: float = 11.0) -> HistoryMonitor:
    """Begin a session and let it look once or twice."""
    watch = HistoryMonitor({"orders": "h"}, store, instruments_of(health=told))
    await watch.begin()
    try:
        async with asyncio.timeout(seconds):
            await watch.run()
    except TimeoutError:
        pass
    return watch


def test_all_rows_taken_out_are_told_once_and_kept_with_their_time() -> None:
    async def work() -> None:
        store, told = MemoryHistories(), Told()
        await looked(store, told)
        store.partitions = {}
        await looked(store, told)
        await looked(store, told)
        assert told.alarms == [EMPTIED_HISTORY]
        assert (store.rows[-1].number, store.rows[-1].reason) == (2, EMPTIED_HISTORY)
        assert store.rows[-1].since >= 11.0

    run(work())


def test_rows_taken_out_under_the_session_are_told_too() -> None:
    async def work() -> None:
        store, told = MemoryHistories(), Told()
        watch = HistoryMonitor({"orders": "h"}, store, instruments_of(health=told))
        await watch.begin()
        running = asyncio.create_task(watch.run())
        store.partitions = {"2026": Partition(20, 21, 1)}
        await asyncio.sleep(11.0)
        running.cancel()
        assert told.alarms == [EMPTIED_HISTORY]

    run(work())


@pytest.mark.parametrize("what", ["old partition", "merge", "lagging replica", "blind"])
def test_what_leaves_the_changes_where_they_are_is_not_told(what: str) -> None:
    async def work() -> None:
        store, told = MemoryHistories(), Told()
        await looked(store, told)
        store.lagging, store.blind = what == "lagging replica", what == "blind"
        kept = {"old partition": {"2026": TWO["2026"]}, "merge": {name: Partition(1, 99, 1) for name in TWO}}
        store.partitions = kept.get(what, {})
        await looked(store, told)
        assert told.alarms == []

    run(work())


def test_another_table_ends_the_session_and_the_next_one_tells_of_it() -> None:
    async def work() -> None:
        store, told = MemoryHistories(), Told()
        watch = await looked(store, told)
        store.uuid = "v"
        with pytest.raises(DestinationChangedError, match="another table"):
            await watch.run()
        await looked(store, told)
        await looked(store, told)
        assert told.alarms == [OTHER_TABLE]
        assert [(row.uuid, row.number) for row in store.rows] == [("u", 1), ("v", 2)]

    run(work())


def test_what_could_not_be_kept_is_told_again() -> None:
    async def work() -> None:
        store, told = MemoryHistories(), Told()
        await looked(store, told)
        store.uuid, store.answer = "v", RetryableError("saving: no answer")
        with pytest.raises(RetryableError):
            await looked(store, told)
        store.answer = None
        await looked(store, told)
        assert told.alarms == [OTHER_TABLE, OTHER_TABLE] and store.rows[-1].uuid == "v"

    run(work())


def test_a_table_renamed_away_for_one_look_ends_nothing() -> None:
    async def work() -> None:
        store, told = MemoryHistories(), Told()
        watch = await looked(store, told)
        running = asyncio.create_task(watch.run())
        await asyncio.sleep(4.0)
        store.uuid = ""
        await asyncio.sleep(2.0)
        store.uuid = "u"
        await asyncio.sleep(10.0)
        assert not running.done() and told.alarms == []
        running.cancel()

    run(work())


def test_a_watch_that_believes_its_name_and_not_its_uuid_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of the rule: what stands under the name counts as what was written."""

    async def work() -> None:
        store, told = MemoryHistories(), Told()
        await looked(store, told)
        look = store.look

        async def believed(histories: Collection[str]) -> Mapping[str, DestinationState]:
            return {name: replace(standing, uuid="u") for name, standing in (await look(histories)).items()}

        monkeypatch.setattr(store, "look", believed)
        store.uuid = "v"
        await looked(store, told)
        assert told.alarms == []

    run(work())
