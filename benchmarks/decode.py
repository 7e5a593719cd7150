"""CPU time of decoding alone: from the body of a GetRecords answer, or a file of an export, to blocks for ClickHouse.

``make bench-decode`` prints microseconds a record, by the compiled path and by the exact
one. CPU time of this process, the best of several runs: other load on the machine disturbs it less than a clock.
"""

from __future__ import annotations

import gc
import gzip
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from events import SIZES, TABLE, events, export_lines, records_body

from dyncdc.decode.compiled.decoder import CompiledSnapshotDecoder, CompiledStreamDecoder
from dyncdc.decode.decoder import SnapshotDecoder, StreamDecoder
from dyncdc.decode.table_plan import compile_table
from dyncdc.model.shards import Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.pipeline.ports.decoder import Decoder
from dyncdc.schema.table_spec import AttributeType, ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sources.export.gzip_lines import GzipLines
from dyncdc.sources.kinesis.get_records import parse_records

RECORDS = 2000
RUNS = 7
VERSION = 1_760_000_000_000_000
PIECE_BYTES = 64 * 1024
CHUNK_LINES = 2000
SHARD = Shard(SourceId("bench"), ShardId("0"))

TARGETS = {"500b": 300_000, "1kb": 100_000, "5kb": 30_000, "snapshot": 110_000}
"""Records a second and core."""


def orders(*, typed: bool = False) -> TableSpec:
    """Return a table for the events. ``typed``: nested values stay DynamoDB's own JSON."""

    def column(name: str, kind: str, *takes: AttributeType, key: bool = False) -> ColumnSpec:
        return ColumnSpec(name, kind, (name,), takes, key=key)

    nested = [column("address", "Nullable(String)", "M"), column("items", "Nullable(String)", "L")]
    if typed:
        nested = [replace(each, encoding="typed") for each in nested]
    columns = (
        column("pk", "String", "S", key=True),
        column("sk", "Int64", "N", key=True),
        column("status", "Nullable(String)", "S"),
        column("amount", "Nullable(Decimal(18, 2))", "N"),
        column("qty", "Nullable(Int64)", "N"),
        column("score", "Nullable(Float64)", "N"),
        column("active", "Nullable(Bool)", "BOOL"),
        column("deleted_at", "Nullable(String)", "S"),
        *nested,
        column("tags", "Array(String)", "SS"),
        column("blob", "Nullable(String)", "B"),
    )
    return TableSpec(TABLE, TABLE, (KeyAttribute("pk", "S"), KeyAttribute("sk", "N")), columns)


@dataclass(frozen=True, slots=True)
class Timing:
    """CPU time of decoding one kind of records."""

    name: str
    fast_seconds: float
    """A record."""
    exact_seconds: float

    def __str__(self) -> str:
        rate, target = 1 / self.fast_seconds, TARGETS[self.name.split()[0]]
        return (
            f"{self.name:<16}{self.fast_seconds * 1e6:>8.2f} us{rate:>10,.0f}/s{target:>10,}/s wanted"
            f"{self.exact_seconds * 1e6:>8.2f} us exactly{self.exact_seconds / self.fast_seconds:>6.1f} x"
        )


def body_to_blocks(body: bytes, decoder: Decoder) -> int:
    """Decode one answer of GetRecords; return how many rows came of it."""
    answer = parse_records(body)
    return decode(RawChunk(SHARD, answer.records, answer.positions, answer.positions[-1], len(body), 0.0), decoder)


def file_to_blocks(data: bytes, items: int, decoder: Decoder) -> int:
    """Decode one data file of an export; return how many rows came of it."""
    found = 0
    for lines in _chunks(GzipLines("file", hashlib.md5(data).digest(), items), data):
        positions = [Position(str(number)) for number in range(len(lines))]
        found += decode(RawChunk(SHARD, lines, positions, Position(""), 1, 0.0), decoder)
    return found


def _chunks(reader: GzipLines, data: bytes) -> Iterator[Sequence[bytes]]:
    lines: list[bytes] = []
    for first in range(0, len(data), PIECE_BYTES):
        reader.feed(data[first : first + PIECE_BYTES])
        while not reader.hungry:
            lines += reader.take(PIECE_BYTES)
            if len(lines) >= CHUNK_LINES:
                yield lines
                lines = []
    yield lines + reader.finish()


def decode(chunk: RawChunk, decoder: Decoder) -> int:
    """Decode a chunk, dropping blocks as they come."""
    return sum(block.rows for decoded in decoder.decode(chunk) for block in decoded.blocks)


def cpu_seconds(work: Callable[[], int], runs: int = RUNS) -> float:
    """Return the least CPU time of a row."""
    best = float("inf")
    for _ in range(runs):
        begun = time.process_time()
        rows = work()
        best = min(best, (time.process_time() - begun) / rows)
    return best


def stream_timing(variant: str, *, typed: bool = False) -> Timing:
    """Time the events of one size."""
    plans = {TABLE: compile_table(orders(typed=typed))}
    body = records_body(events(variant, RECORDS)[0])
    fast, exact = CompiledStreamDecoder(plans, pipeline="bench"), StreamDecoder(plans, pipeline="bench")
    return Timing(
        f"{variant} typed" if typed else variant,
        cpu_seconds(lambda: body_to_blocks(body, fast)),
        cpu_seconds(lambda: body_to_blocks(body, exact), 2),
    )


def snapshot_timing() -> Timing:
    """Time a compressed data file of items of about 460 bytes."""
    plan = compile_table(orders())
    items = RECORDS * 5
    data = gzip.compress(b"".join(line + b"\n" for line in export_lines(items)), compresslevel=6)
    fast = CompiledSnapshotDecoder(plan, VERSION, pipeline="bench")
    exact = SnapshotDecoder(plan, VERSION, pipeline="bench")
    return Timing(
        "snapshot",
        cpu_seconds(lambda: file_to_blocks(data, items, fast), 3),
        cpu_seconds(lambda: file_to_blocks(data, items, exact), 1),
    )


def main() -> None:
    """Print all timings."""
    gc.freeze()
    for variant in SIZES:
        print(stream_timing(variant), flush=True)
    print(stream_timing("1kb", typed=True), flush=True)
    print(snapshot_timing())


if __name__ == "__main__":
    main()
