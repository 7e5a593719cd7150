"""Assembly: everything that one session of the pipeline reads and writes, checked first, made then.

All that can be wrong in the configuration is found before anything is created, so a mistake leaves nothing half-made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dyncdc.app.context import AppContext
from dyncdc.app.unusable_tables import Unusable, first_of, or_unusable
from dyncdc.config import TableConfig
from dyncdc.errors import ConfigError, DyncdcError, FatalError
from dyncdc.pipeline.runtime import is_recoverable
from dyncdc.pipeline.session.services import SnapshotTask, StreamTask
from dyncdc.sources.export.origin import ExportOrigin
from dyncdc.sources.scan.origin import ScanOrigin
from dyncdc.sources.stream import StreamSource

from .decoder_registry import DecoderRegistry
from .live_schema import LiveSchema
from .prepared_tables import PreparedTable, make_own_tables, prepare
from .streams import NotDelivered, is_named, open_stream_of, snapshot_origin, snapshot_plan
from .table_plans import TablePlanned, check_clickhouse, plan_table

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Assembly:
    """What the coordinator is given. ``unusable``: tables that are left out, though nothing may move past them."""

    tables: Sequence[PreparedTable]
    streams: Sequence[StreamTask]
    snapshots: Sequence[SnapshotTask]
    decoders: DecoderRegistry
    columns: LiveSchema
    unusable: Sequence[Unusable] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """A table that can be used, before anything is made for it."""

    plan: TablePlanned
    source: StreamSource
    origin: ExportOrigin | ScanOrigin | None


async def check_table(
    context: AppContext, config: TableConfig, sources: dict[str, StreamSource], *, known_off: bool = False
) -> Checked:
    """Check all that concerns one table; see ``open_stream_of``. Raises ConfigError, FatalError."""
    source = await open_stream_of(context, config, sources, known_off=known_off)
    planned = await plan_table(context, config)
    refusal = planned.incompatibility()
    if refusal is not None:
        raise refusal
    origin = None
    if config.snapshot.method != "none":
        origin = snapshot_origin(context.aws, config, source, context.assignment)
        await context.retry(origin.validate)
    return Checked(planned, source, origin)


async def assemble(context: AppContext, *, strict: bool = False, tolerated: Collection[str] = ()) -> Assembly:
    """Check all that the configuration names, then create what is missing. Raises ConfigError, FatalError.

    A table that can not be used is left out, as long as there is another. With ``strict`` nothing but what is
    ``tolerated`` is left out: what stands in the way of any other table is raised.
    """
    await check_clickhouse(context)
    sources: dict[str, StreamSource] = {}
    unusable: list[Unusable] = []

    async def each(
        configs: Iterable[TableConfig], operation: Callable[[AppContext, TableConfig], Awaitable[T]]
    ) -> AsyncIterator[T]:
        for config in configs:
            if strict and config.dynamodb not in tolerated:
                yield await operation(context, config)
                continue
            found = await or_unusable(context, config, operation)
            if isinstance(found, Unusable):
                unusable.append(found)
            else:
                yield found

    async def check(careful: AppContext, config: TableConfig) -> Checked:
        return await check_table(careful, config, sources)

    checked = {found.plan.config.dynamodb: found async for found in each(context.config.tables, check)}
    if unusable and not checked:
        raise first_of(unusable)
    await make_own_tables(context)

    async def make(careful: AppContext, config: TableConfig) -> PreparedTable:
        return await prepare(careful, checked[config.dynamodb].plan)

    prepared = [table async for table in each([found.plan.config for found in checked.values()], make)]
    if unusable and not prepared:
        raise first_of(unusable)
    decoders = DecoderRegistry.of(context.config.pipeline, prepared)
    snapshots = [
        SnapshotTask(snapshot_plan(table, context.clickhouse), found.origin, found.source)
        for table in prepared
        if (found := checked[table.config.dynamodb]).origin is not None
    ]
    columns = LiveSchema.of(context, prepared, decoders)
    read = [(table, checked[table.config.dynamodb].source) for table in prepared]
    return Assembly(prepared, _streams(context, read, unusable, decoders), snapshots, decoders, columns, unusable)


async def look_again(context: AppContext, one: Unusable, before: DyncdcError) -> DyncdcError | None:
    """Return why a table still can not be used, None when it can; everything that it needs is made by then."""

    async def look(careful: AppContext, config: TableConfig) -> PreparedTable:
        await make_own_tables(careful)  # one may have been dropped since
        checked = await check_table(careful, config, {}, known_off=isinstance(before, NotDelivered))
        return await prepare(careful, checked.plan)

    try:
        found = await or_unusable(context, one.config, look)
    except DyncdcError as error:  # the next session would meet it too: this table alone waits
        return error
    return found.error if isinstance(found, Unusable) else None


async def assemble_first(context: AppContext, *, once: bool) -> Assembly:
    """The same at the start of a process: exit 2, after which no one starts it again, is for the configuration alone.

    What AWS answers, and whether a table's changes are delivered, is another tomorrow. Raises ConfigError, FatalError,
    and RetryableError when no table can be used yet. ``once``: someone waits for all of them.
    """
    try:
        return await assemble(context, strict=once)
    except ConfigError as error:
        if once or not (is_recoverable(error) or isinstance(error, NotDelivered)):
            raise
        raise FatalError(str(error), hint=error.hint) from error


def _streams(
    context: AppContext,
    read: Sequence[tuple[PreparedTable, StreamSource]],
    unusable: Sequence[Unusable],
    decoders: DecoderRegistry,
) -> list[StreamTask]:
    """One task per stream that a usable table is on; the same stream named by name and by ARN is read once."""
    unique = {source.id: source for _, source in read}
    return [
        _stream(
            source,
            [table for table, other in read if other.id == id_],
            [one.config.dynamodb for one in unusable if is_named(source, context.config.stream_of(one.config))],
            decoders,
        )
        for id_, source in unique.items()
    ]


def _stream(
    source: StreamSource, tables: Sequence[PreparedTable], unusable: Sequence[str], decoders: DecoderRegistry
) -> StreamTask:
    names = [table.spec.source_table for table in tables]
    return StreamTask(
        source,
        decoders.for_stream(tables),
        [*names, *unusable],
        {table.spec.source_table: table.created for table in tables},
        {table.spec.source_table: table.target for table in tables},
        frozenset(unusable),
    )
