"""Where rows become durable."""

from __future__ import annotations

from typing import Protocol

from dyncdc.model.blocks import Block


class Sink(Protocol):
    """Where blocks become durable."""

    async def insert(self, block: Block, token: str, *, past_views: bool = False) -> None:
        """Insert one statement's worth of rows; returning means durable.

        ``token`` is equal over retries of the same rows and never otherwise. ``past_views``: what a materialized view
        of the table refuses does not count. Raises RetryableError (which includes "timed out, may have been applied",
        and RefusedError), RejectedRowsError, FatalError.
        """
