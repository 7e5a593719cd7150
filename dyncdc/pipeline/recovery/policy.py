"""Policy: whether the pipeline may go on after a loss. Pure decisions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dyncdc.errors import FatalError
from dyncdc.model.gaps import Gap
from dyncdc.model.shards import SourceId

from .gaps import in_words


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be done about a loss, by DynamoDB table.

    ``tables``: what each source carries. ``unrepeatable``: why a table cannot be loaded again, where it cannot.
    ``destinations``: UUIDs of the tables that are loaded; one that no snapshot was begun for has nothing to lose.
    ``created``: when DynamoDB made the tables, in seconds since the epoch.
    """

    on_lost_position: Literal["resnapshot", "stop"] = "stop"
    tables: Mapping[SourceId, Sequence[str]] = field(default_factory=dict)
    unrepeatable: Mapping[str, str] = field(default_factory=dict)
    destinations: Mapping[str, str] = field(default_factory=dict)
    created: Mapping[str, float] = field(default_factory=dict)
    empty: Collection[str] = ()
    """Tables whose destination holds no rows."""

    @property
    def all_tables(self) -> set[str]:
        """The tables of all sources."""
        return {table for tables in self.tables.values() for table in tables}

    def enforce(self, gaps: Iterable[Gap], requested: Collection[str]) -> None:
        """Raise FatalError unless each gap can be closed, and someone wants that. ``requested``: tables to load."""
        for gap in gaps:
            why_not = self.unrepeatable.get(gap.table)
            if why_not is not None:
                raise FatalError(
                    f"{in_words(gap)}; a fresh snapshot would bring them, but {why_not}",
                    hint='set snapshot.method = "export" with a bucket, or "scan"; or go on without them under another'
                    " `pipeline` name",
                )
            if self.on_lost_position == "stop" and gap.table not in requested:
                raise FatalError(
                    in_words(gap),
                    hint=f"run `dyncdc snapshot {gap.table}` and start again,"
                    ' or set kinesis.on_lost_position = "resnapshot"',
                )
