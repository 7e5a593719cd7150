"""``limits.memory_bytes`` shared out: one number bounds the fetched, the batched and the copies that inserts make."""

from __future__ import annotations

from dataclasses import dataclass

from dyncdc.pipeline.reading.shard.fetch_memory import FETCH_COST
from dyncdc.pipeline.writing.insert_slots import SLOW_SLOTS
from dyncdc.sinks.sink import INSERT_COPIES

STATEMENT_CEILING_BYTES = 4 * 2**20
"""Larger statements do not make ClickHouse faster, and each costs several times its size while it is sent."""

INSERTS_IN_FLIGHT = 2
JOINED = 1.0
"""The writer joins the blocks of a statement into one: a copy of its cells, until ClickHouse has taken them."""

INSERT_SHARE = 0.4
"""At most this share of the memory may be in the copies that inserts make."""

FETCH_CEILING_BYTES = 2 * 2**20
"""What a shard gives in a second. CPU of the whole loop with 1 KB changes, measured: 12.5 us with 1 MiB, 10.3 us with
2 MiB (a call alone costs about 2 ms), and 10.2 us with 3 MiB, for half as much memory again."""

FETCHES_AT_LEAST = 4
"""So many full fetches must fit into the budget beside each other, or one busy shard would starve the rest."""


@dataclass(frozen=True, slots=True)
class MemoryShares:
    """Bytes for each use; their sum, copies counted, is ``limits.memory_bytes``."""

    budget_bytes: int
    statement_bytes: int
    fetch_ceiling_bytes: int


def share_memory(memory_bytes: int) -> MemoryShares:
    """Share the limit out. What inserts need is set aside first: an insert must never wait for the budget it frees."""
    per_statement = (INSERTS_IN_FLIGHT + SLOW_SLOTS) * (JOINED + INSERT_COPIES)
    statement_bytes = int(min(STATEMENT_CEILING_BYTES, memory_bytes * INSERT_SHARE / per_statement))
    budget_bytes = int(memory_bytes - statement_bytes * per_statement)
    fetch_ceiling_bytes = min(FETCH_CEILING_BYTES, budget_bytes // (FETCH_COST * FETCHES_AT_LEAST))
    return MemoryShares(budget_bytes, statement_bytes, fetch_ceiling_bytes)
