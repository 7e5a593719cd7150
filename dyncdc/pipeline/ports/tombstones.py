"""Old tombstones of destinations."""

from __future__ import annotations

from typing import Protocol


class Tombstones(Protocol):
    """Old tombstones of destinations, and the limit below which they are gone. ``table`` is DynamoDB's name."""

    async def open_dead_letters(self, table: str) -> int:
        """How many dead letters are open that may be of the table."""

    async def cleaned_before(self, table: str) -> int:
        """The version (microseconds) below which no row may be written any more that is not newer; 0 when any may."""

    async def promise(self, table: str, before: int) -> None:
        """Make that limit durable. It never goes back."""

    async def count(self, table: str, before: int) -> int:
        """How many tombstones are older than ``before``."""

    async def clean(self, table: str, before: int) -> int:
        """Delete keys whose only remaining rows are deletes older than ``before``; return how many keys.

        Idempotent; interrupted at any point, every deleted item stays deleted. Raises RetryableError, FatalError.
        """
