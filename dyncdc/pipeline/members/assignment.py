"""Assignment: which member reads which shard.

A pure function of an id and of the number of members, so no one has to agree on anything.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from dyncdc.errors import ConfigError, FatalError
from dyncdc.model.shards import Shard, ShardId, SourceId

_MEMBER = re.compile(r"([0-9]{1,6})/([0-9]{1,6})", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Member ``member`` of ``members``, counted from 0, and what is its own."""

    member: int = 0
    members: int = 1

    def __str__(self) -> str:
        return f"{self.member}/{self.members}"

    @classmethod
    def parse(cls, text: str) -> Assignment:
        """Read ``i/n``. Raises ConfigError."""
        found = _MEMBER.fullmatch(text)
        if found is None or not int(found[1]) < int(found[2]):
            raise ConfigError(
                f"being member {text!r}: it must be i/n, with i from 0 to n - 1", hint="as in --member 0/3 for one of 3"
            )
        return cls(int(found[1]), int(found[2]))

    def part(self, number: int, parts: int) -> Assignment:
        """One of ``parts`` processes that share this member's part."""
        return Assignment(self.member * parts + number, self.members * parts)

    @property
    def shared(self) -> bool:
        """Whether there are others."""
        return self.members > 1

    @property
    def is_leader(self) -> bool:
        """Whether this member begins snapshots, sweeps what they do not hold, and answers requests and gaps."""
        return self.member == 0

    def owner(self, source: SourceId, shard: ShardId) -> int:
        """Whose a stream's shard is: forever the same for one id and one number of members."""
        return (_stable(shard) + zlib.crc32(source.encode())) % self.members

    def owns(self, shard: Shard) -> bool:
        """Whether a stream's shard is this member's."""
        return self.owner(shard.source, shard.id) == self.member

    def owners(self, source: SourceId, parts: Iterable[ShardId]) -> dict[ShardId, int]:
        """Whose each file or segment of a snapshot is. ``parts``: all of them; they never change."""
        first = zlib.crc32(source.encode())
        return {part: (first + place) % self.members for place, part in enumerate(sorted(parts))}


def _stable(shard: ShardId) -> int:
    """Kinesis numbers the shards of a stream in a row: by that number they spread evenly, by a hash only on average."""
    number = _NUMBER.search(shard)
    return int(number.group()) if number else zlib.crc32(shard.encode())


def replaced(assignment: Assignment, newer: int, epoch: int) -> FatalError:
    """Say that another process is this member now."""
    return FatalError(
        f"being member {assignment}: another dyncdc process with this pipeline name took over"
        f" (its epoch {newer}, ours {epoch})",
        hint="run one process per member, or give this one another `pipeline` name",
    )
