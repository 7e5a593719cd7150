"""Decoders of the prepared tables: by stream, and by snapshot once its version is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from weakref import WeakSet

from dyncdc.decode.backend import snapshot_decoder, stream_decoder
from dyncdc.decode.decoder import SnapshotDecoder
from dyncdc.decode.table_plan import TablePlan, compile_table
from dyncdc.pipeline.ports.decoder import Decoder

from .prepared_tables import PreparedTable


@dataclass(frozen=True, slots=True)
class DecoderRegistry:
    """Compiled plans by DynamoDB table, and the decoders that work by them."""

    pipeline: str
    plans: dict[str, TablePlan]
    _streams: list[dict[str, TablePlan]] = field(default_factory=list)
    _snapshots: WeakSet[SnapshotDecoder] = field(default_factory=WeakSet)

    @classmethod
    def of(cls, pipeline: str, prepared: Iterable[PreparedTable]) -> DecoderRegistry:
        """Compile every table once. Raises ConfigError."""
        return cls(pipeline, {table.spec.source_table: compile_table(table.spec) for table in prepared})

    def for_stream(self, tables: Iterable[PreparedTable]) -> Decoder:
        """The decoder of a stream that carries these tables."""
        plans = {table.spec.source_table: self.plans[table.spec.source_table] for table in tables}
        self._streams.append(plans)
        return stream_decoder(plans, pipeline=self.pipeline)

    def keepable(self, table: str, record: bytes) -> bytes:
        """What a dead letter may keep of a record of one table."""
        plan = self.plans.get(table)
        return record if plan is None else plan.keepable(record)

    def for_snapshot(self, table: str, version: int) -> Decoder:
        """The decoder of one table's snapshot; ``version`` in microseconds."""
        decoder = snapshot_decoder(self.plans[table], version, pipeline=self.pipeline)
        self._snapshots.add(decoder)
        return decoder

    def exchange(self, table: str, plan: TablePlan) -> None:
        """Let every decoder go on with this plan, from its next sub-batch on."""
        for plans in (self.plans, *self._streams):
            if table in plans:
                plans[table] = plan
        for decoder in self._snapshots:
            if decoder.plan.source_table == table:
                decoder.plan = plan
