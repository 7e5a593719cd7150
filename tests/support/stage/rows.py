"""Rows: records through the real decoder into a real table, in the blocks and the order that a test chooses."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from dyncdc.config import ClickHouseUrl
from dyncdc.decode.decoder import SnapshotDecoder, StreamDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.model.blocks import Block
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.pipeline.ports.decoder import Decoder
from dyncdc.pipeline.writing.batch import collapse, join
from dyncdc.schema.sql.ddl import create_table, create_view
from dyncdc.schema.table_spec import AttributeType, ColumnSpec, KeyAttribute, TableSpec
from dyncdc.schema.types.codecs import default_takes
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.sink import ClickHouseSink
from dyncdc.sinks.state.tables import own_statements
from support.servers.place import Place

SHARD = Shard(SourceId("arn:stream@1"), ShardId("shardId-0"))

KeyType = Literal["S", "N", "B"]


def spec_of(
    table: str, keys: Mapping[str, KeyType], columns: Mapping[str, str], *, takes: Any = None, **options: Any
) -> TableSpec:
    """Make a table's mapping. ``columns``: attribute to type; ``takes``: attribute to DynamoDB types, where not usual.

    An attribute's own name is its column's.
    """
    found: list[ColumnSpec] = []
    for name, kind in columns.items():
        own: tuple[AttributeType, ...] = (keys[name],) if name in keys else default_takes(kind)
        found.append(ColumnSpec(name, kind, (name,), (takes or {}).get(name, own), key=name in keys))
    return TableSpec(
        table, table, tuple(KeyAttribute(name, kind) for name, kind in keys.items()), tuple(found), **options
    )


@dataclass
class Rows:
    """One destination in the test's database."""

    place: Place
    spec: TableSpec
    _tokens: Any = field(default_factory=itertools.count)

    def create(self) -> None:
        """Make the table, its view and dyncdc's own tables."""
        for statement in (*own_statements(), create_table(self.spec), create_view(self.spec)):
            self.place.clickhouse.run(statement)

    def stream(self, *statements: Sequence[tuple[int, bytes]]) -> None:
        """Insert records, each with its sequence number: one INSERT of collapsed rows per sequence of them."""
        decoder = StreamDecoder({self.spec.source_table: compile_table(self.spec)}, pipeline="p")
        self._insert(decoder, [[(str(number), record) for number, record in each] for each in statements])

    def snapshot(self, version: int, *items: Mapping[str, Any]) -> None:
        """Insert items as an export's lines at a version in microseconds."""
        decoder = SnapshotDecoder(compile_table(self.spec), version, pipeline="p")
        self._insert(decoder, [[(str(n), orjson.dumps({"Item": item})) for n, item in enumerate(items)]])

    def _insert(self, decoder: Decoder, statements: Sequence[Sequence[tuple[str, bytes]]]) -> None:
        asyncio.run(self._run([decode(decoder, each) for each in statements]))

    async def _run(self, statements: Sequence[Sequence[Block]]) -> None:
        url = ClickHouseUrl("native", port=self.place.server.tcp_port, database=self.place.name)
        clickhouse = ClickHouse(url, timeout_seconds=10.0)
        sink = ClickHouseSink(clickhouse)
        try:
            for blocks in statements:
                for table in {block.table for block in blocks}:
                    block = join(collapse([each for each in blocks if each.table == table]))
                    await sink.insert(block, f"token/{next(self._tokens)}")
        finally:
            await clickhouse.close()


def decode(decoder: Decoder, records: Sequence[tuple[str, bytes]]) -> list[Block]:
    """Decode records, each with its position, as one chunk."""
    positions = [Position(position) for position, _ in records]
    data = [record for _, record in records]
    chunk = RawChunk(SHARD, data, positions, positions[-1], sum(map(len, data)), 0.0)
    return [block for decoded in decoder.decode(chunk) for block in decoded.blocks]
