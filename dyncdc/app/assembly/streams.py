"""Streams and snapshots to read, opened and checked against what the tables say of themselves."""

from __future__ import annotations

from functools import partial

from dyncdc.app.context import AppContext
from dyncdc.config import TableConfig
from dyncdc.errors import UnusableTableError
from dyncdc.pipeline.members.assignment import Assignment
from dyncdc.pipeline.snapshot.loader import SnapshotPlan
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.tables.introspection import has_rows
from dyncdc.sinks.tables.tombstones import cleaned_before
from dyncdc.sources.clients import AwsClients
from dyncdc.sources.dynamodb import Destination, Tables
from dyncdc.sources.export.origin import ExportOrigin
from dyncdc.sources.scan.origin import ScanOrigin
from dyncdc.sources.stream import StreamSource, open_stream

from .disabled_streaming import record_disabled_streaming
from .prepared_tables import PreparedTable


class NotDelivered(UnusableTableError):
    """A table's changes do not go to the stream: someone has to switch its streaming destination on."""


async def open_stream_of(
    context: AppContext, table: TableConfig, sources: dict[str, StreamSource], *, known_off: bool = False
) -> StreamSource:
    """Open a table's stream, unless it is in ``sources``, by the name that the table has for it.

    ``known_off``: it was seen before that the table's changes do not go there. Raises ConfigError, FatalError.
    """
    config = context.config
    name = config.stream_of(table)
    if name not in sources:
        opening = partial(
            open_stream,
            context.aws,
            name,
            start=config.kinesis.start,
            poll_interval_seconds=config.kinesis.poll_interval_seconds,
        )
        sources[name] = await context.retry(opening)
    await _check_destination(context, table, sources[name], known_off=known_off)
    return sources[name]


def is_named(source: StreamSource, name: str) -> bool:
    """Whether a table means this stream by a name, which may be an ARN."""
    return source.arn.rpartition("/")[2] == name.rpartition("/")[2]


async def destination_states(aws: AwsClients, table: str, source: StreamSource) -> list[Destination]:
    """The table's streaming destinations that lead to ``source``: none or one."""
    destinations, _ = await Tables(aws.dynamodb).destinations(table)
    return [found for found in destinations if found.stream_arn == source.arn]


async def _check_destination(context: AppContext, table: TableConfig, source: StreamSource, *, known_off: bool) -> None:
    """Refuse a table whose changes never reach the stream. Raises ConfigError."""
    name = table.dynamodb
    states = [found.status for found in await context.retry(lambda: destination_states(context.aws, name, source))]
    if not any(state in ("ACTIVE", "ENABLING", "UPDATING") for state in states):
        if not known_off:
            await record_disabled_streaming(context, table, source)
        raise NotDelivered(
            f"reading {name}: its changes do not go to stream {source.label}"
            + (f" (the destination is {states[0]})" if states else ""),
            hint=enable_destination_command(name, source.arn),
        )


def enable_destination_command(table: str, stream_arn: str) -> str:
    """The command that makes a table send its changes to a stream, in microseconds."""
    return (
        f"run: aws dynamodb enable-kinesis-streaming-destination --table-name {table} --stream-arn {stream_arn}"
        " --enable-kinesis-streaming-configuration ApproximateCreationDateTimePrecision=MICROSECOND"
    )


def snapshot_origin(
    aws: AwsClients, table: TableConfig, source: StreamSource, assignment: Assignment | None = None
) -> ExportOrigin | ScanOrigin:
    """The AWS side of a table's snapshot (not ``none``); ``validate`` it before the first use.

    ``assignment``: the members that share a scan's read capacity.
    """
    options = table.snapshot
    if options.method == "scan":
        return ScanOrigin(
            aws,
            table.dynamodb,
            stream_arn=source.arn,
            segments=options.segments,
            read_capacity_units=options.read_capacity_units,
            assignment=assignment or Assignment(),
        )
    return ExportOrigin(
        aws,
        table.dynamodb,
        stream_arn=source.arn,
        bucket=options.bucket or "",
        prefix=options.prefix,
        export_arn=options.export_arn or "",
        bucket_owner=options.bucket_owner or "",
        kms_key=options.kms_key or "",
    )


def snapshot_plan(table: PreparedTable, clickhouse: ClickHouse) -> SnapshotPlan:
    """The rules by which a table is loaded."""
    options = table.config.snapshot
    return SnapshotPlan(
        table=table.config.dynamodb,
        destination_uuid=table.uuid,
        had_rows=table.had_rows,
        margin_seconds=options.margin_seconds,
        settle_seconds=options.settle_seconds,
        export_arn=options.export_arn or "",
        accept_gap=options.accept_gap,
        sweeps=table.spec.deletes != "ignore" and table.spec.deleted_column != "",
        cleaned_before=partial(cleaned_before, clickhouse, table.uuid),
        has_rows=partial(has_rows, clickhouse, table.spec.destination),
    )
