"""Ownership: whether this process may still save for its member, checked before anything is saved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from dyncdc.model.shards import ShardId, SourceId

from .proof import DurabilityProof


class Ownership:
    """By which member and epoch a session saves, and the proofs that it still may."""

    def __init__(self, proof: DurabilityProof, member: int = 0) -> None:
        self.member = member
        self.epoch = 0
        """Above every epoch seen; 0 before the checkpoints are loaded."""
        self.still_alone: Callable[[], Awaitable[None]] = _no_sessions
        """Raises FatalError when another process has begun as this member since."""
        self._proof = proof

    async def check(self, shards: Collection[tuple[SourceId, ShardId]]) -> None:
        """Raise FatalError when another process has taken any of these shards over: what we believe of them is old.

        Also WentBackError, when what was saved last may be gone. Raises RetryableError.
        """
        await self.still_alone()
        await self._proof.prove(shards, self.epoch)

    async def check_durable(self) -> None:
        """As ``check``, of nothing but what was saved last; asks only after a new connection."""
        await self._proof.prove_connection(self.epoch)


async def _no_sessions() -> None:
    """Of a pipeline that keeps no sessions."""
