"""Assembly: everything that one life of the pipeline reads and writes, checked first, made then.

All that can be wrong in the configuration is found before anything is created, so a mistake leaves nothing half-made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import ConfigError, FatalError
from ..pipeline.coordinator import SnapshotTask, StreamTask
from ..pipeline.retry import may_be_mended
from ..sources.kinesis import KinesisSource
from .columns import LiveColumns
from .decoders import Decoders
from .destinations import Prepared, check_clickhouse, plan_table, prepare
from .streams import NotDelivered, open_streams, snapshot_origin, snapshot_plan
from .world import World


@dataclass(frozen=True, slots=True)
class Assembly:
    """What the coordinator is given."""

    tables: Sequence[Prepared]
    streams: Sequence[StreamTask]
    snapshots: Sequence[SnapshotTask]
    decoders: Decoders
    columns: LiveColumns


async def assemble(world: World) -> Assembly:
    """Check all that the configuration names, then create what is missing. Raises ConfigError, FatalError."""
    config = world.config
    await check_clickhouse(world)
    planned = [await plan_table(world, table) for table in config.tables]
    for plan in planned:
        refusal = plan.refusal()
        if refusal is not None:
            raise refusal
    sources = await open_streams(world)
    origins = {
        table.dynamodb: snapshot_origin(world.aws, table, sources[config.stream_of(table)], world.division)
        for table in config.tables
        if table.snapshot.method != "none"
    }
    for origin in origins.values():
        await world.patience(origin.validate)
    prepared = await prepare(world, planned)
    decoders = Decoders.of(config.pipeline, prepared)
    snapshots = [
        SnapshotTask(
            snapshot_plan(table, world.clickhouse),
            origins[table.config.dynamodb],
            sources[config.stream_of(table.config)],
        )
        for table in prepared
        if table.config.dynamodb in origins
    ]
    columns = LiveColumns.of(world, prepared, decoders)
    return Assembly(prepared, _streams(world, prepared, sources, decoders), snapshots, decoders, columns)


async def assemble_first(world: World, *, once: bool) -> Assembly:
    """The same at the start of a process: exit 2, after which nobody starts it again, is for the configuration alone.

    What AWS answers, and whether a table's changes are delivered, is another tomorrow. Raises ConfigError, FatalError.
    """
    try:
        return await assemble(world)
    except ConfigError as error:
        if once or not (may_be_mended(error) or isinstance(error, NotDelivered)):
            raise
        raise FatalError(str(error), hint=error.hint) from error


def _streams(
    world: World, prepared: Sequence[Prepared], sources: Mapping[str, KinesisSource], decoders: Decoders
) -> list[StreamTask]:
    """One task per stream; the same stream named by name and by ARN is read once."""
    tables: dict[str, list[Prepared]] = {}
    for table in prepared:
        tables.setdefault(sources[world.config.stream_of(table.config)].id, []).append(table)
    unique = {source.id: source for source in sources.values()}
    return [
        StreamTask(
            source,
            decoders.for_stream(tables[id_]),
            [table.spec.source_table for table in tables[id_]],
            {table.spec.source_table: table.created for table in tables[id_]},
            {table.spec.source_table: table.target for table in tables[id_]},
        )
        for id_, source in unique.items()
    ]
