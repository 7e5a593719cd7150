"""The demo from the first table to the verdict: what happens when. Nothing is measured or drawn here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from dyncdc.config import load_config
from dyncdc.errors import FatalError
from dyncdc.operations.demo.workload.load import LiveLoad
from dyncdc.operations.demo.workload.sample_data import OrderSystem
from dyncdc.operations.verify import verify_table
from dyncdc.operations.verify.result import Verification

from .console import Screen
from .daemon import Daemon
from .progress import Speed, caught_up, scrape
from .queries import count_rows
from .reshard import merge_last, open_shards, split_first
from .result import verdict_line
from .seed import CUSTOMERS_SHARE, TABLES, fill, make_tables, start_streaming
from .services import Kit, open_kit
from .summary import show_result

OVERHEAD_SECONDS = 70.0
"""Longest that everything but the live load may take together, for 20,000 items."""
ITEMS_PER_SECOND = 500.0
"""Slowest that any more items may be written, loaded and compared."""
CATCH_UP_SECONDS = 30.0
OBSERVE_SECONDS = 0.5
SPLIT_AFTER = 0.25
MERGE_AFTER = 0.6
"""Shares of the live load's time."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the user can choose. ``rate``: changes per second; ``items``: those that the snapshot loads."""

    seconds: float = 20.0
    rate: float = 200.0
    items: int = 20_000
    directory: Path | None = None
    keep: bool = False
    seed: int = 1


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """What came out: each table's comparison, and how many changes were made while the daemon ran."""

    results: tuple[Verification, ...]
    changes: int

    @property
    def equal(self) -> bool:
        """Whether source and destination are equal."""
        return all(result.equal for result in self.results)

    @property
    def verdict(self) -> str:
        """The last line of output."""
        return verdict_line(self.results, self.changes)


async def run_demo(options: DemoOptions, console: Console, report: Callable[[DemoOutcome], None]) -> DemoOutcome:
    """Run the demo on ``console``; ``report`` is called once with the outcome, and prints the last line.

    With ``keep`` it then waits to be cancelled. Raises ConfigError, FatalError.
    """
    async with open_kit(options.directory) as kit, AsyncExitStack() as stack:
        with Screen(console) as screen:
            show = _Show(options, kit, screen)
            stack.push_async_callback(show.daemon.stop)
            limit_seconds = options.seconds + OVERHEAD_SECONDS + max(0, options.items - 20_000) / ITEMS_PER_SECOND
            try:
                async with asyncio.timeout(limit_seconds):
                    await show.until_running()
                    outcome = await show.watched(show.act())
            except TimeoutError:
                doing = screen.picture.phase
                raise FatalError(f"running the demo: not done after {limit_seconds:.0f} s, still {doing}") from None
        await show_result(console, kit, outcome.results, keep=options.keep)
        report(outcome)
        if options.keep:
            await show.daemon.keep_running()
    return outcome


class _Show:
    def __init__(self, options: DemoOptions, kit: Kit, screen: Screen) -> None:
        self._options = options
        self._kit = kit
        self._screen = screen
        self._begun = asyncio.get_running_loop().time()
        self._system = OrderSystem(options.seed)
        self._customers = options.items // CUSTOMERS_SHARE
        self._load = LiveLoad(self._system, kit.writer, self._customers, [])
        self._speed = Speed()
        self.daemon = Daemon(kit.config_file, kit.log_file, self._say)

    async def until_running(self) -> None:
        """Make the source, fill it, and start the daemon."""
        kit = self._kit
        self._say(f"local AWS at {kit.local_aws.endpoint_url}, ClickHouse {kit.clickhouse_http}")
        self._phase("filling DynamoDB")
        await make_tables(kit.aws)
        written = [0]
        orders = await self._while_ticking(fill(self._system, kit.writer, self._options.items, written), written)
        self._load = LiveLoad(self._system, kit.writer, self._customers, orders)
        await start_streaming(kit.aws)
        self._say(f"{self._options.items:,} items in {' and '.join(TABLES)}; changes now go to a stream")
        await self.daemon.start()
        self._phase("snapshot and stream")
        self._say(f"daemon started as pid {self.daemon.pid}, log {kit.log_file}")

    async def act(self) -> DemoOutcome:
        """Change the source, reshard the stream, then wait for the daemon and compare."""
        seconds = self._options.seconds
        self._say(f"live load: {self._options.rate:,.0f} changes/s for {seconds:,.0f} s")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._load.run(self._options.rate, seconds), name="load")
            group.create_task(self._reshard(seconds), name="reshard")
        await self._load.expiries_happened()
        counts = self._load.counts
        self._say(f"live load over: {counts.total:,} changes, {counts.expired:,} of them expired items")
        self._phase("catching up")
        await self._catch_up()
        self._phase("verifying")
        config = load_config(str(self._kit.config_file))
        results = [await verify_table(config, table) for table in TABLES]
        self._phase("done")
        return DemoOutcome(tuple(results), counts.total)

    async def watched(self, work: Coroutine[Any, Any, T]) -> T:
        """Do ``work`` while the daemon is kept running and watched."""
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(self.daemon.keep_running(), name="daemon"),
                group.create_task(self._observe(), name="observe"),
            ]
            result = await work
            for task in background:
                task.cancel()
        return result

    async def _reshard(self, seconds: float) -> None:
        kinesis = self._kit.aws.kinesis
        await asyncio.sleep(SPLIT_AFTER * seconds)
        self._say(f"split shard {await split_first(kinesis)}")
        await asyncio.sleep((MERGE_AFTER - SPLIT_AFTER) * seconds)
        self._say(f"merged shards {' and '.join(await merge_last(kinesis))}")

    async def _catch_up(self) -> None:
        """Wait until all that was written is durable, by the daemon's own signals and ClickHouse's counts."""
        since = time.time()
        deadline = asyncio.get_running_loop().time() + CATCH_UP_SECONDS
        shards = [shard.id for shard in await open_shards(self._kit.aws.kinesis)]
        seen: dict[str, int] = {}
        while asyncio.get_running_loop().time() < deadline:
            view = await scrape(self._kit.http, self._kit.metrics_url)
            if view is not None and caught_up(view, shards, TABLES, since):
                rows = await self._count()
                if rows and rows == seen:
                    self._say("caught up: every shard read to its tip, everything acknowledged")
                    return
                seen = rows
            await asyncio.sleep(OBSERVE_SECONDS / 2)
        self._say(f"not caught up after {CATCH_UP_SECONDS:.0f} s: comparing anyway")

    async def _observe(self) -> None:
        picture = self._screen.picture
        while True:
            picture.daemon_pid, picture.restarts = self.daemon.pid, self.daemon.restarts
            picture.counts = self._load.counts
            picture.daemon = await scrape(self._kit.http, self._kit.metrics_url)
            now = asyncio.get_running_loop().time()
            if picture.daemon is not None:
                picture.rows_per_second = self._speed.add(now, picture.daemon.rows_written)
            picture.rows = await self._count()
            picture.elapsed_seconds = now - self._begun
            self._screen.update()
            await asyncio.sleep(OBSERVE_SECONDS)

    async def _count(self) -> dict[str, int]:
        return await count_rows(self._kit.http, self._kit.clickhouse_http)

    async def _while_ticking(self, work: Awaitable[T], written: list[int]) -> T:
        async def tick() -> None:
            while True:
                self._screen.picture.written = written[0]
                self._screen.picture.elapsed_seconds = asyncio.get_running_loop().time() - self._begun
                self._screen.update()
                await asyncio.sleep(OBSERVE_SECONDS)

        async with asyncio.TaskGroup() as group:
            ticking = group.create_task(tick(), name="tick")
            result = await work
            ticking.cancel()
        return result

    def _phase(self, phase: str) -> None:
        self._screen.picture.phase = phase
        self._screen.picture.elapsed_seconds = asyncio.get_running_loop().time() - self._begun

    def _say(self, event: str) -> None:
        self._screen.picture.elapsed_seconds = asyncio.get_running_loop().time() - self._begun
        self._screen.say(event)
