"""``dyncdc check``: everything that ``run`` depends on, looked at without changing anything. One finding per fact."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from dyncdc.app.assembly.streams import destination_states, enable_destination_command, snapshot_origin
from dyncdc.app.assembly.table_plans import SAMPLE_ITEMS, TablePlanned, plan_table
from dyncdc.app.context import AppContext, open_aws, open_clickhouse
from dyncdc.app.startup_retry import StartupRetry
from dyncdc.config import Config, TableConfig
from dyncdc.errors import DyncdcError
from dyncdc.operations.ddl import unsynced_tables
from dyncdc.operations.permissions.grants import can_tell, missing_grants
from dyncdc.schema.sql.quoting import quote_name
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.cluster import (
    SPLIT_HINT,
    check_cluster,
    cluster_in_use,
    present_tables,
    refuse_engines,
    split_tables,
)
from dyncdc.sinks.state.tables import own_tables
from dyncdc.sources.clients import AwsClients
from dyncdc.sources.dynamodb import DELIVERING, TableDescription, Tables
from dyncdc.sources.kinesis.stream_positions import start_from
from dyncdc.sources.scan.read_capacity import UNIT_BYTES
from dyncdc.sources.stream import StreamSource, open_stream

from .changed import changed_findings
from .findings import Finding, Level
from .replicas import replica_findings
from .sample import sample_findings
from .server_version import version_findings

T = TypeVar("T")

PROBE_BYTES = 1
"""One record is enough, and takes the least of what the other readers of the shard may have."""

PRECISION_COMMAND = (
    "run: aws dynamodb update-kinesis-streaming-destination --table-name {table} --stream-arn {stream}"
    " --update-kinesis-streaming-configuration ApproximateCreationDateTimePrecision=MICROSECOND"
)

AUTO_DISTRIBUTION = "the stream places records without regard to their keys (AUTO): changes that tie have no order"
DISTRIBUTION_COMMAND = (
    "run: aws kinesis update-stream-record-distribution-strategy --stream-arn {stream}"
    " --record-distribution-strategy USER_PARTITION_KEY"
)


TABLE_STATES: Mapping[str, tuple[Level, str]] = {
    "CREATING": ("warning", "wait until it is ACTIVE"),
    "DELETING": ("error", "name another table, or make it again"),
    "ARCHIVING": ("error", "give DynamoDB its KMS key back; what is archived comes back from a backup only"),
    "ARCHIVED": ("error", "restore it from its backup: DynamoDB has archived it as its KMS key was away"),
    "INACCESSIBLE_ENCRYPTION_CREDENTIALS": ("error", "give DynamoDB the KMS key of the table back, within seven days"),
    "REPLICATION_NOT_AUTHORIZED": ("error", "give DynamoDB the permission to replicate the table back"),
}
"""States of a table in which not all is well. Source: AWS DynamoDB API reference, TableDescription."""


class Checker:
    """Collects findings; a failure is one more finding and ends only what depends on it."""

    def __init__(self, config: Config, startup_retry: StartupRetry) -> None:
        self._config = config
        self._startup_retry = startup_retry
        self._cluster: str | None = None
        self.findings: list[Finding] = [Finding("ok", "config", f"valid, {len(config.tables)} tables")]

    async def run(self) -> None:
        """Look at ClickHouse, the streams and every table."""
        try:
            async with open_clickhouse(self._config, self._startup_retry) as clickhouse:
                await self._server(clickhouse)
                await self._aws(clickhouse)
        except DyncdcError as error:
            self._failed("clickhouse", error)
            await self._aws(None)

    def _say(self, level: Level, subject: str, text: str, todo: str = "") -> None:
        self.findings.append(Finding(level, subject, text, todo))

    def _failed(self, subject: str, error: DyncdcError) -> None:
        self._say("error", subject, str(error), error.hint)

    async def _try(self, subject: str, operation: Callable[[], Awaitable[T]]) -> T | None:
        """Run one look; None, and a finding, when it fails."""
        try:
            return await self._startup_retry(operation)
        except DyncdcError as error:
            self._failed(subject, error)
            return None

    async def _server(self, clickhouse: ClickHouse) -> None:
        version = str((await clickhouse.fetch("SELECT version()"))[0][0])
        self._say("ok", "clickhouse", f"{self._config.clickhouse.url} answers, version {version}")
        self.findings += version_findings(version)
        configured = self._config.clickhouse.cluster
        self._cluster = await self._try("clickhouse", lambda: cluster_in_use(clickhouse, configured))
        present = await self._try("clickhouse", lambda: present_tables(clickhouse, own_tables())) or {}
        try:
            refuse_engines(clickhouse, self._cluster, present)
        except DyncdcError as error:
            self._failed("clickhouse", error)
        if self._cluster is not None:
            await self._servers(clickhouse, self._cluster)

    async def _servers(self, clickhouse: ClickHouse, cluster: str) -> None:
        """Whether all servers of the cluster have, or would have, one truth."""
        if await self._try("clickhouse", lambda: self._valid(lambda: check_cluster(clickhouse, cluster))):
            name = f"cluster {cluster}" if cluster else "the Replicated database"
            self._say("ok", "clickhouse", f"{name} has one shard")
        configured = [(table.destination, table.history) for table in self._config.tables]
        names = [*own_tables(), *(name for pair in configured for name in pair if name)]
        for found in await self._try("clickhouse", lambda: split_tables(clickhouse, cluster, names)) or []:
            self._say("error", "clickhouse", str(found), SPLIT_HINT)

    async def _aws(self, clickhouse: ClickHouse | None) -> None:
        try:
            async with open_aws(self._config) as aws:
                sources: dict[str, StreamSource | None] = {}
                planned: list[TablePlanned] = []
                context = (
                    AppContext(self._config, aws, clickhouse, self._startup_retry, cluster=self._cluster)
                    if clickhouse is not None
                    else None
                )
                for table in self._config.tables:
                    name = self._config.stream_of(table)
                    if name not in sources:
                        sources[name] = await self._stream(aws, name)
                    await self._table(aws, table, sources[name])
                    if context is not None and (plan := await self._mapping(context, table)) is not None:
                        planned.append(plan)
                if context is not None and planned:
                    await self._grants(context, planned)
                    await self._fsync(context, planned)
                    await self._replicas(context, planned)
        except DyncdcError as error:
            self._failed("aws", error)

    async def _stream(self, aws: AwsClients, name: str) -> StreamSource | None:
        source = await self._try(f"stream {name}", lambda: open_stream(aws, name))
        if source is not None:
            hours = (source.retention_seconds or 0.0) / 3600
            self._say("ok", f"stream {name}", f"ACTIVE, keeps data for {hours:.0f} h")
            if not source.by_key:
                self._say(
                    "warning", f"stream {name}", AUTO_DISTRIBUTION, DISTRIBUTION_COMMAND.format(stream=source.arn)
                )
            reading: StreamSource = source
            await self._try(f"stream {name}", lambda: self._valid(lambda: _read_one_shard(reading)))
        return source

    async def _grants(self, context: AppContext, planned: list[TablePlanned]) -> None:
        """What the user may not do. What only makes tables is no error where all are there."""
        answers = await self._try("grants", lambda: can_tell(context))
        if answers is None:
            return
        if not answers:
            self._say("warning", "grants", "this server cannot be asked", "compare them with what `dyncdc ddl` lists")
            return
        lacking = await self._try("grants", lambda: missing_grants(context, planned))
        if lacking is None:
            return
        for place, privilege, needed_now in lacking:
            todo = f"run as an administrator: GRANT {privilege} ON {place} TO {quote_name(context.clickhouse.url.user)}"
            self._say("error" if needed_now else "warning", "grants", f"{privilege} ON {place} is missing", todo)
        if not lacking:
            self._say("ok", "grants", "all that `dyncdc ddl` lists are there")

    async def _fsync(self, context: AppContext, planned: list[TablePlanned]) -> None:
        lacking = await self._try("clickhouse", lambda: unsynced_tables(context, planned))
        if lacking:
            text = f"insert_fsync = true, and without its settings are {', '.join(lacking)}"
            self._say(
                "warning",
                "clickhouse",
                text,
                "run `dyncdc ddl --apply`; the grant ALTER SETTINGS is among those that it prints",
            )

    async def _replicas(self, context: AppContext, planned: list[TablePlanned]) -> None:
        ours = [name for plan in planned for name in (plan.spec.destination, plan.spec.history) if name]
        found = await self._try("clickhouse", lambda: replica_findings(context, [*own_tables(), *ours]))
        self.findings += found or []

    async def _table(self, aws: AwsClients, table: TableConfig, source: StreamSource | None) -> None:
        subject = f"table {table.dynamodb}"
        description = await self._try(subject, lambda: Tables(aws.dynamodb).describe(table.dynamodb))
        if description is None:
            return
        keys = ", ".join(f"{key.name} {key.type}" for key in description.keys)
        level, todo = TABLE_STATES.get(description.status, ("ok", ""))
        self._say(level, subject, f"{description.status}, key {keys}", todo)
        if source is not None:
            await self._destination(aws, table, source)
        if source is not None and table.snapshot.method != "none":
            await self._snapshot(aws, table, source, description)

    async def _snapshot(
        self, aws: AwsClients, table: TableConfig, source: StreamSource, description: TableDescription
    ) -> None:
        options = table.snapshot
        subject = f"table {table.dynamodb} {options.method}"
        origin = snapshot_origin(aws, table, source)
        if not await self._try(subject, lambda: self._valid(origin.validate)):
            return
        text = "possible"
        if options.method == "scan":
            minutes = description.size_bytes / UNIT_BYTES / options.read_capacity_units / 60
            text += f", {options.segments} segments at {options.read_capacity_units:g} read units/s: {minutes:,.0f} min"
        self._say("ok", subject, text)

    @staticmethod
    async def _valid(operation: Callable[[], Awaitable[None]]) -> bool:
        await operation()
        return True

    async def _destination(self, aws: AwsClients, table: TableConfig, source: StreamSource) -> None:
        subject = f"table {table.dynamodb} stream"
        states = await self._try(subject, lambda: destination_states(aws, table.dynamodb, source))
        if states is None:
            return
        if not states:
            todo = enable_destination_command(table.dynamodb, source.arn)
            self._say("error", subject, f"changes do not go to {source.label}", todo)
            return
        state = states[0]
        if state.status not in DELIVERING:
            self._say(
                "error" if state.status != "ENABLING" else "warning", subject, f"the destination is {state.status}"
            )
        elif state.precision != "MICROSECOND" and not source.by_key:
            todo = PRECISION_COMMAND.format(table=table.dynamodb, stream=source.arn)
            self._say("error", subject, f"ACTIVE with MILLISECOND stamps, and {AUTO_DISTRIBUTION}", todo)
        elif state.precision != "MICROSECOND":
            todo = PRECISION_COMMAND.format(table=table.dynamodb, stream=source.arn)
            self._say("warning", subject, "ACTIVE with MILLISECOND stamps: changes of one item can tie", todo)
        else:
            self._say("ok", subject, "ACTIVE with MICROSECOND stamps")

    async def _mapping(self, context: AppContext, table: TableConfig) -> TablePlanned | None:
        subject = f"destination {table.destination}"
        planned = await self._try(subject, lambda: plan_table(context, table))
        if planned is None:
            return None
        refusal = planned.incompatibility()
        if refusal is not None:
            self._failed(subject, refusal)
        elif planned.exists:
            self._say("ok", subject, f"exists and is safe, {len(planned.spec.columns)} columns mapped")
        else:
            self._say("ok", subject, f"will be created with {len(planned.spec.columns)} columns")
        if planned.spec.history and refusal is None:
            self._say("ok", f"history {planned.spec.history}", "keeps every change of " + table.dynamodb)
        for text in planned.notes:
            self._say("warning", subject, text)
        if refusal is None:
            await self._sample(context, table, planned)
        found: TablePlanned = planned
        self.findings += await self._try(subject, lambda: changed_findings(context, found)) or []
        return planned

    async def _sample(self, context: AppContext, table: TableConfig, planned: TablePlanned) -> None:
        """Try some items on the mapping. Needs dynamodb:Scan, which not every daemon needs."""
        try:
            items = await self._startup_retry(lambda: context.tables.sample(table.dynamodb, SAMPLE_ITEMS))
        except DyncdcError as error:
            text = f"no items were looked at, so neither names nor values of the mapping are checked: {error}"
            self._say("warning", f"table {table.dynamodb}", text, error.hint)
            items = ()
        self.findings += sample_findings(table, planned.spec, items)


async def _read_one_shard(source: StreamSource) -> None:
    """Read one shard from now on: all that reading the stream takes is permitted, or AWS names what is not."""
    async for page in source.list_shards():
        for shard in page[-1:]:
            await source.fetch(shard, start_from("LATEST", source.server_time), PROBE_BYTES)
            return
