"""The destinations' columns while the pipeline runs: added, looked at again, and the plans that go with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dyncdc.app.context import AppContext
from dyncdc.decode.table_plan import compile_table
from dyncdc.errors import AccessDeniedError, ConfigError, FatalError
from dyncdc.pipeline.destinations.schema_evolution import DestinationChangedError, EvolvingTable, SchemaEvolution
from dyncdc.schema.existing.compatibility import incompatibilities
from dyncdc.schema.existing.table import ExistingTable
from dyncdc.schema.mapping import existing_table_spec
from dyncdc.schema.stored_mapping import StoredColumn
from dyncdc.schema.table_spec import ColumnSpec, TableSpec
from dyncdc.schema.unmapped import UnmappedAttributes
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import TableGoneError
from dyncdc.sinks.state.mappings import mapping_news, read_destination
from dyncdc.sinks.tables.evolution import refresh_view, run_add_columns
from dyncdc.sinks.tables.schema_check import SchemaCheck
from dyncdc.telemetry.task_health import TaskHealth

from .decoder_registry import DecoderRegistry
from .mappings import keep_mapping, kept_now
from .prepared_tables import PreparedTable


@dataclass(slots=True)
class LiveSchema:
    """Implements ``schema_evolution.Columns`` over ClickHouse. Of one session."""

    clickhouse: ClickHouse
    cluster: str | None
    decoders: DecoderRegistry
    prepared: dict[str, PreparedTable]
    pipeline: str = ""
    health: TaskHealth = field(default_factory=TaskHealth)
    evolving: dict[str, EvolvingTable] = field(default_factory=dict)
    kept: dict[str, Mapping[str, StoredColumn]] = field(default_factory=dict)
    """What is kept of each mapping since this session began to change it."""
    watch: SchemaCheck = field(init=False)
    evolution: SchemaEvolution = field(init=False)

    @classmethod
    def of(cls, context: AppContext, prepared: Sequence[PreparedTable], decoders: DecoderRegistry) -> LiveSchema:
        """Watch every table, and evolve those that are to get columns."""
        known = {table.spec.source_table: table for table in prepared}
        columns = cls(
            context.clickhouse, context.cluster, decoders, known, context.config.pipeline, context.retry.health
        )
        columns.evolution = SchemaEvolution(columns, columns.evolving)
        names = {table.spec.destination: table.spec.source_table for table in prepared}
        columns.watch = SchemaCheck(
            context.clickhouse, lambda destination: columns.evolution.changed(names[destination])
        )
        for table in prepared:
            if table.config.evolve == "add_columns" and table.spec.spill_column:
                unmapped = UnmappedAttributes(
                    nested=table.config.nested,
                    flatten_depth=table.config.flatten_depth,
                    on_news=columns.evolution.note,
                )
                columns.evolving[table.spec.source_table] = EvolvingTable(unmapped, table.config.max_columns)
            columns._settle(table.spec, table.table)
        return columns

    async def add(self, table: str, columns: Sequence[ColumnSpec]) -> None:
        """See ``schema_evolution.Columns``."""
        spec = self.prepared[table].spec
        try:
            await run_add_columns(self.clickhouse, spec.destination, columns, spec.spill_column, self.cluster)
        except TableGoneError as error:
            raise DestinationChangedError(str(error), hint=error.hint) from None
        except FatalError:
            await self.refresh(table)  # some of them may be there
            raise
        except AccessDeniedError as error:  # the attributes are in the spill: it is told, and tried now and then
            await self.refresh(table)
            raise FatalError(str(error), hint=error.hint) from error
        await self.refresh(table)

    async def refresh(self, table: str) -> None:
        """See ``schema_evolution.Columns``."""
        prepared = self.prepared[table]
        destination = prepared.spec.destination
        known = self.kept.get(table) or prepared.table.stored
        existing = await read_destination(self.clickhouse, destination, known)
        if existing is None or existing.uuid != prepared.uuid:
            raise DestinationChangedError(f"reading the columns of {destination}: it is gone, or was recreated")
        spec = existing_table_spec(prepared.config, prepared.spec.keys, existing)
        refused = incompatibilities(existing, spec, self.cluster)
        if refused:
            raise DestinationChangedError(f"reading the columns of {destination}: {refused[0].reason}")
        if spec.spill_column != prepared.spec.spill_column:  # former rows were written without it
            raise DestinationChangedError(f"reading the columns of {destination}: its spill column is another")
        narrowed = mapping_news(existing, spec).narrowed
        if narrowed:  # a new session loads the table again, and keeps the type only then
            raise DestinationChangedError(f"reading the columns of {destination}: {narrowed[0]}")
        self._exchange(spec, existing)
        await refresh_view(self.clickhouse, spec, self.cluster)
        news = await keep_mapping(self.clickhouse, self.pipeline, spec, existing, self.health, self.cluster)
        self.kept[table] = kept_now(existing, news).stored

    def _exchange(self, spec: TableSpec, table: ExistingTable) -> None:
        """Rows are made by the new mapping from now on: only after its columns have been seen to be there."""
        try:
            plan = compile_table(spec)
        except ConfigError as error:
            raise DestinationChangedError(str(error), hint=error.hint) from None
        self.decoders.exchange(spec.source_table, plan)
        self._settle(spec, table)

    def _settle(self, spec: TableSpec, table: ExistingTable) -> None:
        types = {column.name: column.type for column in table.columns if not column.computed}
        self.watch.expect(spec.destination, table.uuid, types)
        evolved = self.evolving.get(spec.source_table)
        if evolved is not None:
            evolved.columns = spec.columns
            evolved.taken = {column.name for column in table.columns} | self.prepared[spec.source_table].virtual
            evolved.unmapped.set_columns(spec.columns)
            self.decoders.plans[spec.source_table].unmapped = evolved.unmapped
