"""The status of one process: what its configuration and ClickHouse add to what it knows of itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from dyncdc.config import Config
from dyncdc.errors import DyncdcError
from dyncdc.pipeline.members.assignment import Assignment
from dyncdc.pipeline.runtime import in_background
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.status_reader import StatusReader
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.status import LatestState, StatusBuilder, StatusSources, TableFacts
from dyncdc.telemetry.status.model import Freshness
from dyncdc.telemetry.task_health import TaskHealth

PAUSE_SECONDS = 5.0
"""Between two looks at ClickHouse while a page is open."""


def make_status_builder(
    config: Config, assignment: Assignment, metrics: Metrics, health: TaskHealth, missing: Sequence[str]
) -> StatusBuilder:
    """The builder of this process's status. ``missing``: what has to be done until it is ready, read at each look."""
    return StatusBuilder(
        config.pipeline, str(assignment), table_facts(config), StatusSources(metrics, health, lambda: missing)
    )


def table_facts(config: Config) -> list[TableFacts]:
    """What the page says of tables from their configuration alone."""
    return [
        TableFacts(
            table.dynamodb,
            table.destination,
            config.stream_of(table).rpartition("/")[2],
            table.snapshot.method,
            table.history or "",
        )
        for table in config.tables
    ]


@asynccontextmanager
async def asking_clickhouse(
    clickhouse: ClickHouse, config: Callable[[], Config], stored: LatestState
) -> AsyncIterator[None]:
    """Keep ``stored`` fresh while the block runs and a page is open; it never ends the block.

    ``config`` is asked at each look: it may be another one by then.
    """
    async with in_background(_keep_fresh(clickhouse, config, stored), "status"):
        yield


async def _keep_fresh(clickhouse: ClickHouse, config: Callable[[], Config], stored: LatestState) -> None:
    reader = StatusReader(clickhouse, config().pipeline)
    while True:
        await stored.wanted.wait()
        stored.wanted.clear()
        try:
            stored.state = await reader.read(table_facts(config()))
            stored.fresh = Freshness(time.time())
        except DyncdcError as error:
            stored.fresh = Freshness(stored.fresh.read_at, str(error))
        await asyncio.sleep(PAUSE_SECONDS)
