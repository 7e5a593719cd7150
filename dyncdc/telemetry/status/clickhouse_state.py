"""Stored: what ClickHouse holds of a pipeline, as of the last time that it answered. Values only; app/ reads them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from .model import GapPart, LettersPart, MemberPart, StoredPart


@dataclass(slots=True)
class ClickHouseState:
    """Kept while ClickHouse is down. ``wanted``: someone looks at the page; nothing is asked while no one does."""

    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    fresh: StoredPart = field(default_factory=StoredPart)
    dead_letters: list[LettersPart] = field(default_factory=list)
    dead_letters_by_table: dict[str, int] = field(default_factory=dict)
    gaps: list[GapPart] = field(default_factory=list)
    gaps_total: int = 0
    snapshots: dict[str, str] = field(default_factory=dict)
    """State of the newest snapshot, by DynamoDB table."""
    rows: dict[str, int] = field(default_factory=dict)
    """By destination."""
    members: list[MemberPart] = field(default_factory=list)

    @property
    def known(self) -> bool:
        """Whether ClickHouse was ever asked."""
        return self.fresh.read_at > 0
