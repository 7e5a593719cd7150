"""One session of a daemon after the other: what the next one knows of the last, and when SIGHUP is heard."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from support.pipeline.virtual_time import run

from dyncdc.app.assembly.assembly import Assembly
from dyncdc.app.context import AppContext
from dyncdc.app.daemon import sessions, startup, state
from dyncdc.app.daemon.sessions import Sessions
from dyncdc.app.daemon.startup import Startup
from dyncdc.app.daemon.state import DaemonState
from dyncdc.app.process.signals import Stop
from dyncdc.app.reload import ConfigChange
from dyncdc.app.run_options import RunOptions
from dyncdc.app.startup_retry import StartupRetry
from dyncdc.config import Config
from dyncdc.errors import ConfigError
from dyncdc.pipeline.checkpoint.proof import WentBackError
from dyncdc.sinks.client.error_codes import TableGoneError
from dyncdc.sinks.client.quorum import Quorum

BEGIN_SECONDS = 2.0
QUORUM = type("Q", (), {"wanted": "auto"})
CLICKHOUSE = type("C", (), {"quorum": QUORUM})
NOTHING = cast(Assembly, type("A", (), {"unusable": ()})())


def _state(stop: Stop) -> DaemonState:
    config = Config.model_validate(
        {
            "pipeline": "p",
            "clickhouse": {"url": "clickhouse://h"},
            "kinesis": {"stream": "s"},
            "tables": [{"dynamodb": "items", "snapshot": {"method": "none"}}],
        }
    )
    return DaemonState(config, stop, RunOptions(read=lambda: config))


class _SlowSessions(Sessions):
    """Sessions that begin slowly and then do nothing."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(_state(stop))
        self.epochs: list[int] = []
        self.ended_beginning = 0

    async def _replicate(self, world: AppContext, assembly: Assembly) -> None:
        try:
            await asyncio.sleep(BEGIN_SECONDS)
        except asyncio.CancelledError:
            self.ended_beginning += 1
            raise
        self.epochs.append(len(self.epochs) + 1)
        self._ready(self.epochs[-1])
        await asyncio.Event().wait()


def test_a_reload_that_is_asked_for_while_a_session_begins_waits_until_it_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def changed(current: Config, *_: object) -> ConfigChange:
        return ConfigChange(current, ("batch.max_rows",), ())

    monkeypatch.setattr(state, "reload", changed)
    monkeypatch.setattr(sessions, "notify", lambda _: None)

    async def scenario() -> None:
        stop = Stop()
        slow = _SlowSessions(stop)
        world, assembly = cast(AppContext, type("W", (), {"config": None, "clickhouse": CLICKHOUSE})()), NOTHING
        for number in range(1, 4):
            session = asyncio.create_task(slow.run(world, assembly))
            await asyncio.sleep(BEGIN_SECONDS / 2)
            stop.reload.set()
            assert await session is False
            assert slow.epochs == list(range(1, number + 1))
        assert slow.ended_beginning == 0

    run(scenario())


def test_a_session_that_cannot_begin_for_want_of_a_quorum_follows_a_new_one_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "notify", lambda _: None)

    class Waits(_SlowSessions):
        async def _replicate(self, world: AppContext, assembly: Assembly) -> None:
            while world.clickhouse.quorum.wanted == "auto":  # noqa: ASYNC110 - as an insert that is tried again
                await asyncio.sleep(0.1)
            self._ready(1)
            await asyncio.sleep(BEGIN_SECONDS)

    async def scenario() -> None:
        stop = Stop()
        slow = Waits(stop)
        before = slow._state.config
        one = before.clickhouse.model_copy(update={"insert_quorum": "off"})
        slow._state.options = RunOptions(read=lambda: before.model_copy(update={"clickhouse": one}))
        clickhouse = type("C", (), {"quorum": Quorum(60)})()
        world = cast(AppContext, type("W", (), {"config": before, "clickhouse": clickhouse})())
        session = asyncio.create_task(slow.run(world, NOTHING))
        await asyncio.sleep(1)
        stop.reload.set()
        async with asyncio.timeout(startup.REOPEN_SECONDS + 2 * BEGIN_SECONDS):
            assert await session is True
        assert slow._state.config.clickhouse.insert_quorum == "off"

    run(scenario())


@pytest.mark.parametrize("begun", [False, True])
def test_that_clickhouse_went_back_is_known_until_a_session_has_begun_since(
    monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    """Catches: a session that ends before it has begun, after which nothing is read again of what was lost."""
    monkeypatch.setattr(sessions, "notify", lambda _: None)

    class Ends(_SlowSessions):
        async def _replicate(self, world: AppContext, assembly: Assembly) -> None:
            if not self.epochs:
                self.epochs.append(1)
                self._ready(1)
                raise WentBackError("using ClickHouse: it went back")
            if begun:
                self._ready(2)
            raise TableGoneError("loading checkpoints: there is no such table")

    async def scenario() -> None:
        slow = Ends(Stop())
        world, assembly = cast(AppContext, type("W", (), {"config": None, "clickhouse": CLICKHOUSE})()), NOTHING
        assert await slow.run(world, assembly) is False and slow._went_back
        assert await slow.run(world, assembly) is False and slow._went_back is not begun

    run(scenario())


def test_a_reload_is_heard_while_a_session_waits_for_what_its_configuration_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches: a table whose stream is gone, taken out of the configuration, that still keeps the others waiting."""
    mended = Config.model_validate(
        {
            "pipeline": "p",
            "clickhouse": {"url": "clickhouse://h"},
            "kinesis": {"stream": "another"},
            "tables": [{"dynamodb": "items", "snapshot": {"method": "none"}}],
        }
    )

    async def assemble(world: AppContext, *, strict: bool) -> Assembly:
        if world.config is not mended:
            raise ConfigError("opening stream s: it does not exist")
        return cast(Assembly, "assembled")

    async def changed(current: Config, *_: object) -> ConfigChange:
        return ConfigChange(mended, ("kinesis.stream",), ())

    monkeypatch.setattr(startup, "assemble", assemble)
    monkeypatch.setattr(state, "reload", changed)

    async def scenario() -> None:
        stop = Stop()
        shared = _state(stop)
        with shared.health.task("start") as task:
            startup_retry = StartupRetry(None, shared.health, task)
            world = cast(
                AppContext, type("W", (), {"config": None, "clickhouse": CLICKHOUSE, "retry": startup_retry})()
            )
            assembling = asyncio.create_task(Startup(shared).assemble_again(world))
            await asyncio.sleep(10 * startup.REOPEN_SECONDS)
            assert not assembling.done()
            stop.reload.set()
            async with asyncio.timeout(2 * startup.REOPEN_SECONDS):
                assert await assembling == "assembled"
            assert not stop.reload.is_set()

    run(scenario())


def test_a_reload_that_a_session_cuts_short_by_ending_is_answered_by_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches: a SIGHUP that no one answers, because a table was recreated while the new configuration was tried."""
    tries = []

    async def slow_first(current: Config, *_: object) -> ConfigChange:
        tries.append(current)
        if len(tries) == 1:
            await asyncio.Event().wait()
        return ConfigChange(current, ("batch.max_rows",), ())

    monkeypatch.setattr(state, "reload", slow_first)
    monkeypatch.setattr(sessions, "notify", lambda _: None)

    class Ends(_SlowSessions):
        async def _replicate(self, world: AppContext, assembly: Assembly) -> None:
            self.epochs.append(len(self.epochs) + 1)
            self._ready(self.epochs[-1])
            await asyncio.sleep(BEGIN_SECONDS)
            if len(self.epochs) == 1:
                raise TableGoneError("inserting into items: it was recreated")

    async def scenario() -> None:
        stop = Stop()
        slow = Ends(stop)
        world, assembly = cast(AppContext, type("W", (), {"config": None, "clickhouse": CLICKHOUSE})()), NOTHING
        stop.reload.set()
        assert await slow.run(world, assembly) is False and len(tries) == 1
        assert await slow.run(world, assembly) is False and len(tries) == 2
        assert not stop.reload.is_set()

    run(scenario())


def test_sessions_that_end_at_once_do_not_follow_each_other_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a table of dyncdc's own with a view whose target is gone, for which lives begin as fast as they can."""
    monkeypatch.setattr(sessions, "notify", lambda _: None)

    class Ends(_SlowSessions):
        async def _replicate(self, world: AppContext, assembly: Assembly) -> None:
            self._ready(1)
            raise TableGoneError("saving 1 checkpoints: there is no such table")

    async def scenario() -> None:
        slow = Ends(Stop())
        world, assembly = cast(AppContext, type("W", (), {"config": None, "clickhouse": CLICKHOUSE})()), NOTHING
        begun_at = asyncio.get_running_loop().time()
        for _ in range(5):
            assert await slow.run(world, assembly) is False
        assert asyncio.get_running_loop().time() - begun_at >= 5 * startup.REOPEN_SECONDS

    run(scenario())


def test_a_table_of_its_own_that_is_dropped_while_a_process_starts_does_not_end_it() -> None:
    class Starts(Startup):
        looks = 0

        async def _alone(self, world: AppContext, assembly: Assembly) -> Assembly:
            self.looks += 1
            if self.looks == 1:
                raise TableGoneError("looking for members: there is no such table")
            return assembly

    async def assemble() -> Assembly:
        return cast(Assembly, "assembled")

    async def scenario() -> None:
        shared = _state(Stop())
        starts = Starts(shared)
        with shared.health.task("start") as task:
            world = cast(AppContext, type("W", (), {"retry": StartupRetry(None, shared.health, task)})())
            assert await starts._begin_with(world, assemble) == "assembled"
        assert starts.looks == 2

    run(scenario())
