"""Watermarks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Watermark:
    """One row of ``dyncdc_watermarks``: the destination of ``table`` holds all that was made before ``complete_until``.

    So says ``member`` of its own shards; the least over all ``members`` counts, and nothing while one of them is
    missing. ``complete_until`` in seconds since the epoch; None: no instant can be named yet. ``saved_at``: by the
    store's clock.
    """

    table: str
    member: int
    members: int
    complete_until: float | None
    saved_at: float = 0.0
