"""Records the settings that decide the rows before a session writes any, and finds rows written under others.

Rows that a fresh snapshot makes right are a gap, which recovery closes as configured; of all others someone is told.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

from dyncdc.app.context import AppContext
from dyncdc.config import TableConfig
from dyncdc.config.attribute_paths import format_attribute_path
from dyncdc.model.gaps import Gap
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.destinations.row_settings import RecordedSettings, RowSettings, SettingChange, effects, first_noted
from dyncdc.schema.existing.table import ExistingTable
from dyncdc.schema.mapping import beside_list
from dyncdc.schema.sql.quoting import mentions
from dyncdc.schema.table_spec import TableSpec
from dyncdc.sinks.state.mappings import MappingNews, mapping_news
from dyncdc.sinks.state.progress.snapshots import ClickHouseSnapshots
from dyncdc.sinks.state.recovery import ClickHouseRecovery
from dyncdc.sinks.state.row_settings import ClickHouseRowSettings
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth

from .assembly import Assembly
from .mappings import keep_mapping
from .prepared_tables import PreparedTable

_DIGESTED = b"dyncdc: which key"


def row_settings(config: TableConfig, spec: TableSpec) -> RowSettings:
    """Return what decides the rows of a table; of the key of ``mask`` a digest."""
    digest = hmac.new(config.mask_key, _DIGESTED, hashlib.sha256).hexdigest()[:32] if config.mask_key else ""
    columns = [
        (column.name, format_attribute_path(column.path), ",".join(column.takes), str(column.lossy), column.encoding)
        for column in spec.columns
    ]
    return RowSettings(
        destination=spec.destination,
        deletes=spec.deletes,
        ttl_deletes=spec.ttl_deletes,
        exclude=tuple(sorted(map(format_attribute_path, spec.redaction.exclude))),
        mask=tuple(sorted(map(format_attribute_path, spec.redaction.mask))),
        mask_key=digest,
        columns=tuple(sorted(columns)),
        listed=bool(config.column_list),
        beside=tuple(sorted(column.name for column in beside_list(config, spec.columns))),
        history=spec.history,
        spill=spec.spill_column,
        deleted=spec.deleted_column,
    )


def unrepeatable(config: TableConfig) -> str:
    """Why a table cannot be reloaded, "" when it can."""
    if config.snapshot.method == "none":
        return 'snapshot.method is "none": set "scan", or "export", to load it again'
    return "snapshot.export_arn names one export: name a bucket instead" if config.snapshot.export_arn else ""


async def note_settings(
    context: AppContext, assembly: Assembly, epoch: int, metrics: Metrics, health: TaskHealth
) -> dict[str, str]:
    """Note the settings and mappings of the session of this epoch, and make durable what former rows need.

    Returns, by table, what health must name. Before anything is read or written, and after the session was claimed:
    what a process notes that then gives way to another one would count as what the rows of that one are under.
    """
    errors = {}
    for stream in assembly.streams:
        for table in assembly.tables:
            if table.spec.source_table in stream.tables:
                noting = _Noting(context, table, epoch, metrics, health)
                error = await noting.run(stream.source.id, stream.source.server_time)
                if error:
                    errors[table.spec.source_table] = error
    return errors


class _Noting:
    """One table's start."""

    def __init__(
        self, context: AppContext, table: PreparedTable, epoch: int, metrics: Metrics, health: TaskHealth
    ) -> None:
        self._context = context
        self._table = table
        self._epoch = epoch
        self._metrics = metrics
        self._health = health
        self._name = table.spec.source_table
        self._store = ClickHouseRowSettings(context.clickhouse, context.config.pipeline)

    async def run(self, source: str, now: float) -> str:
        """Note everything; return what the destination cannot hold any more, "" for nothing."""
        context, table = self._context, self._table
        past = await context.retry(lambda: self._store.load(self._name))
        mine = of_member(past, context.assignment.member)
        settings = row_settings(table.config, table.spec)
        found = effects(mine, table.uuid, settings, shown_columns(table.table, table.spec), past)
        narrowed = mapping_news(table.table, table.spec).narrowed
        since = first_noted(past, table.uuid, settings)  # ALTER changes values of any age
        found += [
            SettingChange("column", f"{words}: ALTER may have changed values", "snapshot", since) for words in narrowed
        ]
        await self._tell(found, source, now)
        # only now: what is noted is not found again
        news = await context.retry(
            lambda: keep_mapping(
                context.clickhouse, context.config.pipeline, table.spec, table.table, self._health, context.cluster
            )
        )
        last = mine[-1] if mine else None
        if (
            last is None
            or (last.uuid, last.settings) != (table.uuid, settings)
            or last.member != context.assignment.member
        ):
            # In the order of the sessions: what a process that gave way notes late is not the newest.
            noted = RecordedSettings(table.uuid, settings, now, context.assignment.member, self._epoch)
            await context.retry(lambda: self._store.save(self._name, noted))
        return self._lost(news)

    async def _tell(self, found: Sequence[SettingChange], source: str, now: float) -> None:
        """Make a gap of what a snapshot makes right, once rows were loaded; say the rest."""
        why_not = unrepeatable(self._table.config)
        repairable = [effect for effect in found if effect.repaired_by == "snapshot" and not why_not]
        for effect in found:
            if effect not in repairable:
                hint = why_not if effect.repaired_by == "snapshot" else "no snapshot changes that"
                self._health.log_error(
                    "settings changed", table=self._name, setting=effect.setting, stays=effect.words, hint=hint
                )
        loaded = await self._loaded() if repairable else []
        if loaded:
            await self._gaps(repairable, source, now, max(snapshot.covered_from for snapshot in loaded))

    async def _gaps(self, repairable: Sequence[SettingChange], source: str, now: float, covered_from: float) -> None:
        recovery = ClickHouseRecovery(self._context.clickhouse, self._context.config.pipeline)
        noticed_at = await self._context.retry(recovery.server_time)
        told = {gap.key for gap in await self._context.retry(recovery.open_gaps)}  # by another member
        end = max(now, covered_from + 0.001)  # what covers from before now on was begun under the other settings
        gaps = []
        for since in sorted({effect.since for effect in repairable}):
            reason = "; ".join(effect.words for effect in repairable if effect.since == since)
            begin = begin_of(since, clickhouse_now=noticed_at, stream_now=now, end=end)
            gaps.append(Gap(self._name, source, "", begin, end, reason=reason, noticed_at=noticed_at))
        await self._context.retry(partial(recovery.save_gaps, gaps))
        for gap in gaps:
            if gap.key in told:
                continue
            self._metrics.tables.gaps.labels(self._name).inc()
            hint = "a fresh snapshot makes the rows right"
            self._health.log_error("settings changed", table=self._name, gap=gap.reason, hint=hint)

    async def _loaded(self) -> list[Snapshot]:
        """The snapshots of this destination that were begun; where there is none, all of it is still to come."""
        context = self._context
        snapshots = ClickHouseSnapshots(context.clickhouse, context.config.pipeline)
        known = await context.retry(snapshots.load)
        return [each for each in known if (each.table, each.destination_uuid) == (self._name, self._table.uuid)]

    def _lost(self, news: MappingNews) -> str:
        if not news.spill or self._table.config.metadata.spill == "":
            return ""
        name = self._table.spec.destination
        self._health.log_error("spill column missing", table=self._name, destination=name, column=news.spill)
        return (
            f"{name} has lost its spill column {news.spill}: attributes without a column are left out, misfits become"
            f' dead letters; run ALTER TABLE {name} ADD COLUMN {news.spill} String, or set metadata.spill = ""'
        )


def begin_of(since: float, *, clickhouse_now: float, stream_now: float, end: float) -> float:
    """When a gap begins, by the stream's clock. ``since`` is ClickHouse's, whose clock need not agree; 0: just now.

    The clocks' difference counts in whole minutes: members that find the same change then agree on one begin. A clock
    that was put back in between leaves at least a second, or there would be no gap.
    """
    ahead = round((clickhouse_now - stream_now) / 60) * 60
    return min(since - ahead if since else end, end - 1.0)


def report_errors(health: TaskHealth, errors: Mapping[str, str], tasks: AsyncExitStack) -> None:
    """Report these errors, by table, in health until ``tasks`` is closed."""
    for table, why in errors.items():
        tasks.enter_context(health.task(f"mapping:{table}")).failed(why)


def of_member(past: Sequence[RecordedSettings], member: int) -> Sequence[RecordedSettings]:
    """What one member noted, or, before it has noted anything, what all did."""
    own = [noted for noted in past if noted.member == member]
    return own or past


def shown_columns(table: ExistingTable, spec: TableSpec) -> set[str]:
    """Columns whose DEFAULT reads the spill."""
    return {column.name for column in table.columns if mentions(column.default, spec.spill_column)}
