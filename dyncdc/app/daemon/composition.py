"""What one session of the pipeline is given: its stores in ClickHouse, and its settings from the configuration."""

from __future__ import annotations

from dyncdc.app.assembly.assembly import Assembly
from dyncdc.app.assembly.rejected_rows import RejectedRowRecords
from dyncdc.app.context import AppContext
from dyncdc.app.process.memory_limits import INSERTS_IN_FLIGHT, MemoryShares
from dyncdc.pipeline.session.services import Destination, Settings
from dyncdc.pipeline.writing.dead_letter_limits import DeadLetterLimits
from dyncdc.pipeline.writing.open_batch import BatchLimits
from dyncdc.sinks.sink import ClickHouseSink
from dyncdc.sinks.state.dead_letters.limit_stops import ClickHouseLimitStops
from dyncdc.sinks.state.dead_letters.store import ClickHouseDeadLetters
from dyncdc.sinks.state.destinations import ClickHouseDestinations
from dyncdc.sinks.state.members import ClickHouseMembers
from dyncdc.sinks.state.progress.checkpoints import ClickHouseCheckpoints
from dyncdc.sinks.state.progress.snapshots import ClickHouseSnapshots
from dyncdc.sinks.state.progress.watermarks import ClickHouseWatermarks
from dyncdc.sinks.state.recovery import ClickHouseRecovery
from dyncdc.sinks.state.sessions import ClickHouseSessions
from dyncdc.sinks.tables.orphan_rows import ClickHouseOrphanRows
from dyncdc.telemetry.metrics import Metrics

from .state import DaemonState


def make_destination(context: AppContext, assembly: Assembly, metrics: Metrics) -> Destination:
    """Where the rows of a session go, and everything that must last."""
    clickhouse, pipeline = context.clickhouse, context.config.pipeline
    return Destination(
        sink=ClickHouseSink(clickhouse, assembly.columns.watch),
        checkpoints=ClickHouseCheckpoints(clickhouse, pipeline),
        snapshots=ClickHouseSnapshots(clickhouse, pipeline),
        decoders=assembly.decoders,
        dead_letters=_rejected_rows(pipeline, assembly, metrics),
        members=ClickHouseMembers(clickhouse, pipeline),
        sessions=ClickHouseSessions(clickhouse, pipeline),
        watermarks=ClickHouseWatermarks(clickhouse, pipeline),
        limit_stops=ClickHouseLimitStops(ClickHouseDeadLetters(clickhouse, pipeline)),
        schema_evolution=assembly.columns.evolution,
        recovery=ClickHouseRecovery(clickhouse, pipeline),
        destinations=ClickHouseDestinations(
            clickhouse, {table.spec.destination: table.spec.deleted_column for table in assembly.tables}
        ),
        orphan_rows=ClickHouseOrphanRows(
            clickhouse, pipeline, {table.spec.source_table: table.spec for table in assembly.tables}
        ),
    )


def _rejected_rows(pipeline: str, assembly: Assembly, metrics: Metrics) -> RejectedRowRecords:
    tables = {table.spec.destination: table.spec.source_table for table in assembly.tables}
    tables |= {table.spec.history: table.spec.source_table for table in assembly.tables if table.spec.history}
    return RejectedRowRecords(
        pipeline,
        tables,
        lambda table, why: metrics.tables.dead_letters.labels(table, why).inc(),
        assembly.decoders.keepable,
    )


def session_settings(state: DaemonState, shares: MemoryShares, *, went_back: bool) -> Settings:
    """What the configuration in force and the command line say about a session."""
    config, options = state.config, state.options
    batch = BatchLimits(
        max_rows=config.batch.max_rows,
        max_bytes=config.batch.max_bytes,
        max_age_seconds=config.batch.max_age_seconds,
        statement_bytes=shares.statement_bytes,
        inserts_in_flight=INSERTS_IN_FLIGHT,
    )
    return Settings(
        config.pipeline,
        batch,
        shares.budget_bytes,
        fetch_ceiling_bytes=shares.fetch_ceiling_bytes,
        checkpoint_interval_seconds=config.checkpoint.interval_seconds,
        replay_seconds=config.clickhouse.replay_after_restart_seconds,
        went_back=went_back,
        drain_seconds=config.run.shutdown_seconds,
        assignment=options.assignment,
        once=options.once,
        since=options.since,
        after=state.epoch,
        succession=state.succession,
        on_lost_position=config.kinesis.on_lost_position,
        dead_letter_limiter=DeadLetterLimits(config.dead_letters.max_ratio, config.dead_letters.max_consecutive),
    )
