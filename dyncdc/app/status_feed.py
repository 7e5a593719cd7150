"""The status page of one process: what its configuration and ClickHouse add to what it knows of itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from dyncdc.config import Config
from dyncdc.errors import DyncdcError
from dyncdc.pipeline.coordinator import root_cause
from dyncdc.pipeline.members.liveness import alive
from dyncdc.pipeline.members.membership import Assignment
from dyncdc.pipeline.recovery.gaps import in_words
from dyncdc.schema.sql.quoting import quote_text
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.state.checkpoints import ClickHouseSnapshots
from dyncdc.sinks.state.dead_letters import ClickHouseDeadLetters
from dyncdc.sinks.state.members import ClickHouseMembers
from dyncdc.sinks.state.recovery import ClickHouseRecovery
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.status import ClickHouseState, StatusBuilder, TableFacts
from dyncdc.telemetry.status.model import MOST_GAPS, MOST_LETTERS, GapPart, LettersPart, MemberPart, StoredPart
from dyncdc.telemetry.task_health import TaskHealth

PAUSE_SECONDS = 5.0
"""Between two looks at ClickHouse while someone looks at the page."""


def make_status_builder(
    config: Config, assignment: Assignment, metrics: Metrics, health: TaskHealth, missing: Sequence[str]
) -> StatusBuilder:
    """The overview of this process. ``missing``: what has to be done until it is ready, read at each look."""
    return StatusBuilder(config.pipeline, str(assignment), table_facts(config), metrics, health, lambda: missing)


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
    clickhouse: ClickHouse, config: Callable[[], Config], stored: ClickHouseState
) -> AsyncIterator[None]:
    """Keep ``stored`` fresh while the block runs and someone looks; it never ends the block.

    ``config`` is asked at each look: it may be another one by then.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(_keep_fresh(clickhouse, config, stored), name="status")
            yield
            task.cancel()
    except BaseExceptionGroup as group:
        raise root_cause(group) from group


async def _keep_fresh(clickhouse: ClickHouse, config: Callable[[], Config], stored: ClickHouseState) -> None:
    buried = ClickHouseDeadLetters(clickhouse, config().pipeline)
    while True:
        await stored.wanted.wait()
        stored.wanted.clear()
        try:
            await _read(clickhouse, config(), stored, buried)
            stored.fresh = StoredPart(time.time())
        except DyncdcError as error:
            stored.fresh = StoredPart(stored.fresh.read_at, str(error))
        await asyncio.sleep(PAUSE_SECONDS)


async def _read(clickhouse: ClickHouse, config: Config, stored: ClickHouseState, buried: ClickHouseDeadLetters) -> None:
    pipeline = config.pipeline
    open_letters = await buried.count_by_reason()
    gaps = await ClickHouseRecovery(clickhouse, pipeline).open_gaps()
    snapshots = await ClickHouseSnapshots(clickhouse, pipeline).load()
    found = await ClickHouseMembers(clickhouse, pipeline).members()
    rows = await clickhouse.fetch(
        "SELECT name, total_rows FROM system.tables WHERE database = currentDatabase() AND name IN"
        f" ({', '.join(quote_text(table.destination) for table in config.tables)})",
        doing="counting rows",
    )
    # From here on nothing is awaited: whoever looks sees one answer.
    stored.dead_letters = [LettersPart(*dead_letters) for dead_letters in open_letters[:MOST_LETTERS]]
    stored.dead_letters_by_table = {}
    for table, _, _, count, _ in open_letters:
        stored.dead_letters_by_table[table] = stored.dead_letters_by_table.get(table, 0) + count
    stored.gaps_total = len(gaps)
    shown = sorted(gaps, key=lambda gap: (gap.accepted, -gap.noticed_at))[:MOST_GAPS]
    stored.gaps = [GapPart(gap.table, in_words(gap), gap.noticed_at, gap.accepted) for gap in shown]
    stored.snapshots = {snapshot.table: snapshot.state for snapshot in snapshots}
    stored.rows = {name: int(count) for name, count in rows if count is not None}
    newest = max((one.epoch, one.members) for one in found)[1] if found else 0
    living = alive(found)
    stored.members = [
        MemberPart(f"{one.member}/{one.members}", one in living, max(0.0, one.age_seconds))
        for one in found
        if one.members == newest or one in living
    ]
