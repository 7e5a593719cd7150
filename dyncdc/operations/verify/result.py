"""What a comparison found, and the lines that say so. Keys and attribute names are shown, values never."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import orjson

from dyncdc.schema.types.dynamodb_values import Item

Kind = Literal["missing", "extra", "different"]
MOST_SHOWN = 100
"""Differing keys kept by name. More are counted."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that is not the same on both sides.

    ``missing``: only DynamoDB has it; ``extra``: only ClickHouse; ``different``: ``attributes`` differ.
    """

    table: str
    key: str
    """The primary key as typed JSON."""
    kind: Kind
    attributes: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """One line for people."""
        what = {
            "missing": "not in ClickHouse",
            "extra": "not in DynamoDB",
            "different": f"differs in {', '.join(map(repr, self.attributes))}",
        }[self.kind]
        return f"{self.table} {self.key}: {what}"


@dataclass(slots=True)
class Verification:
    """The outcome for one table. ``items``: how many DynamoDB's scan returned."""

    table: str
    destination: str
    items: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)
    """The first ``MOST_SHOWN``."""
    not_compared: tuple[str, ...] = ()
    """What the destination cannot hold exactly by its definition, and is therefore left out."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return self.differing == 0

    def add(self, difference: Difference) -> None:
        """Count a difference, and keep it if there is room."""
        self.differing += 1
        if len(self.differences) < MOST_SHOWN:
            self.differences.append(difference)

    @property
    def verdict(self) -> str:
        """The last line: ``EQUAL items=N`` or ``DIFFERENT items=N differing=K``."""
        return f"EQUAL items={self.items}" if self.equal else f"DIFFERENT items={self.items} differing={self.differing}"

    def lines(self) -> Iterator[str]:
        """Everything before the verdict."""
        if self.not_compared:
            yield f"{self.table}: not compared: {', '.join(self.not_compared)}"
        for difference in self.differences:
            yield difference.line
        if self.differing > len(self.differences):
            yield f"{self.table}: and {self.differing - len(self.differences)} more"

    def document(self) -> dict[str, object]:
        """The same for machines."""
        return {
            "table": self.table,
            "destination": self.destination,
            "equal": self.equal,
            "items": self.items,
            "differing": self.differing,
            "differences": [
                {"key": orjson.loads(each.key), "kind": each.kind, "attributes": list(each.attributes)}
                for each in self.differences
            ],
            "not_compared": list(self.not_compared),
        }


def key_text(key: Item) -> str:
    """Return a primary key as typed JSON, equal for equal keys."""
    return orjson.dumps(key).decode()
