"""What ``init`` looks at: the DynamoDB table, its stream, some items, and what stands in ClickHouse. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dyncdc.app.assembly.streams import enable_destination_command
from dyncdc.app.context import open_clickhouse
from dyncdc.app.startup_retry import StartupRetry
from dyncdc.config import Config
from dyncdc.errors import ConfigError, DyncdcError
from dyncdc.operations.check.checker import PRECISION_COMMAND
from dyncdc.schema.existing.table import ExistingTable
from dyncdc.sinks.state.mappings import read_destination
from dyncdc.sources.clients import AwsClients
from dyncdc.sources.dynamodb import Destination, TableDescription, Tables
from dyncdc.sources.export.origin import enable_recovery_command
from dyncdc.sources.item_json import Item
from dyncdc.sources.kinesis.stream_description import StreamDescription, describe_stream

from .clickpipes import ClickPipesTable, look_at_adoption

TABLE_SOURCES = ("ACTIVE", "ENABLING", "UPDATING")
"""States of a streaming destination that carries changes, or soon will."""


@dataclass(slots=True)
class Source:
    """DynamoDB's side. ``stream`` None: nothing carries the table's changes yet. ``todo``: what is to be done there."""

    table: TableDescription
    stream: StreamDescription | None
    items: Sequence[Item]
    version_type: str
    """Of a new destination: UInt256 where the stream stamps milliseconds, so that changes of one item never tie."""
    todo: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ExistingDestination:
    """ClickHouse's side. ``unseen``: why nothing could be looked at, "" when it could."""

    table: ExistingTable | None = None
    adoption: ClickPipesTable | None = None
    unseen: str = ""


async def look_at_source(
    aws: AwsClients, startup_retry: StartupRetry, table: str, stream: str, items: int, bucket: str
) -> Source:
    """Read the description, the stream ("" finds it) and up to ``items`` items. Raises ConfigError, FatalError."""
    tables = Tables(aws.dynamodb)
    description = await startup_retry(lambda: tables.describe(table))
    destinations, _ = await startup_retry(lambda: tables.destinations(table))
    live = [found for found in destinations if found.status in TABLE_SOURCES]
    name = stream or _best(live)
    facts = await startup_retry(lambda: describe_stream(aws.kinesis, name)) if name else None
    sample = await startup_retry(lambda: tables.sample(table, items))
    mine = [found for found in live if facts is not None and found.stream_arn == facts.arn]
    fine = all(found.precision == "MICROSECOND" for found in mine)
    source = Source(description, facts, sample, "Int64" if fine else "UInt256")
    source.todo += _stream_todo(table, facts, mine)
    if bucket and not await startup_retry(lambda: tables.point_in_time_recovery(table)):
        source.todo.append(f"exports need point-in-time recovery, which is off; {enable_recovery_command(table)}")
    return source


def _best(live: Sequence[Destination]) -> str:
    """The destination with the finest stamps; "" when there is none."""
    ordered = sorted(live, key=lambda found: (found.precision != "MICROSECOND", found.status != "ACTIVE"))
    return ordered[0].stream_arn if ordered else ""


def _stream_todo(table: str, facts: StreamDescription | None, mine: Sequence[Destination]) -> list[str]:
    if facts is None:
        command = enable_destination_command(table, "STREAM_ARN")
        return [
            f"the table's changes go to no Kinesis stream yet; make one, name it below as kinesis.stream, and {command}"
        ]
    if not mine:
        command = enable_destination_command(table, facts.arn)
        return [f"the table's changes do not go to {facts.name} yet; {command}"]
    if mine[0].precision != "MICROSECOND":
        command = PRECISION_COMMAND.format(table=table, stream=facts.arn)
        return [
            f"changes are stamped in milliseconds, so that two of one item can tie; before the first start, {command}"
        ]
    return []


def _exists(directory: str) -> bool:
    return Path(directory).exists()


async def look_at_clickhouse(config: Config, startup_retry: StartupRetry) -> ExistingDestination:
    """Read what stands under the destination's name. What cannot be reached or read is said, not raised."""
    url, name = config.clickhouse.url, config.tables[0].destination
    if url.kind == "local" and not _exists(url.directory):
        return ExistingDestination(unseen=f"{url} does not exist yet")
    try:
        async with open_clickhouse(config, startup_retry) as clickhouse:
            table = await startup_retry(lambda: read_destination(clickhouse, name))
            adoption = None
            if table is not None:
                adoption = await startup_retry(lambda: look_at_adoption(clickhouse, table))
            return ExistingDestination(table, adoption)
    except ConfigError as error:
        return ExistingDestination(unseen=f"{error}{f'; {error.hint}' if error.hint else ''}")
    except DyncdcError as error:
        return ExistingDestination(unseen=str(error))
