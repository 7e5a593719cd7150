"""StreamSource: what the rest of the code may know of the stream that carries a table's changes."""

from __future__ import annotations

from typing import Protocol

from dyncdc.pipeline.ports.source import Source


class StreamSource(Source, Protocol):
    """A source that a table's streaming destination names. Another kind of stream plugs in here."""

    @property
    def arn(self) -> str:
        """ARN of the stream: what streaming destinations name."""

    @property
    def by_key(self) -> bool:
        """Whether changes of one item share a shard, and so keep their order: when it was opened."""
