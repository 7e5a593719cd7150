"""Stages by themselves, in this process: GetRecords bodies to blocks, and an export's data file to blocks."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from decode import RECORDS, VERSION, body_to_blocks, cpu_seconds, file_to_blocks, orders
from events import SIZES, TABLE, events, export_lines, records_body
from results import Result
from rig import BenchmarkFailed

from dyncdc.decode.compiled.decoder import CompiledSnapshotDecoder, CompiledStreamDecoder
from dyncdc.decode.table_plan import compile_table

BODIES = 5
SNAPSHOT_ITEMS = 20_000


def _all(work: Callable[[], int], rows: int) -> Callable[[], int]:
    def checked() -> int:
        found = work()
        if found != rows:
            raise BenchmarkFailed(f"{found} rows of {rows}")
        return found

    return checked


def _result(name: str, contender: str, work: Callable[[], int], rows: int, repeats: int) -> Result:
    cost = cpu_seconds(_all(work, rows), 3 * repeats) * 1e6
    return Result(name, contender, cost, 1e6 / cost)


def stages(repeats: int = 3) -> list[Result]:
    """All stages, nested data as plain JSON and kept typed."""
    made = []
    packed = gzip.compress(b"".join(line + b"\n" for line in export_lines(SNAPSHOT_ITEMS)), compresslevel=6)
    for contender, typed in (("dyncdc", False), ("dyncdc_typed", True)):
        plan = compile_table(orders(typed=typed))
        for size in SIZES:
            changes, _ = events(size, RECORDS * BODIES)
            bodies = [records_body(changes[start : start + RECORDS]) for start in range(0, len(changes), RECORDS)]
            stream = CompiledStreamDecoder({TABLE: plan}, pipeline="bench")
            work = _bodies(bodies, stream)
            made.append(_result(f"body_to_blocks_{size}", contender, work, len(changes), repeats))
        snapshot = CompiledSnapshotDecoder(plan, VERSION, pipeline="bench")
        work = _file(packed, snapshot)
        made.append(_result("snapshot_to_blocks", contender, work, SNAPSHOT_ITEMS, repeats))
    return made


def _bodies(bodies: list[bytes], decoder: CompiledStreamDecoder) -> Callable[[], int]:
    return lambda: sum(body_to_blocks(body, decoder) for body in bodies)


def _file(packed: bytes, decoder: CompiledSnapshotDecoder) -> Callable[[], int]:
    return lambda: file_to_blocks(packed, SNAPSHOT_ITEMS, decoder)
