"""What is kept of one column of a destination. Values only; ``sinks/state/mappings`` reads and writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from dyncdc.schema.sql.column_comments import Origin

Role = Literal["attribute", "spill", "version", "deleted", "expired", "gone"]
By = Literal["comment", "sample", "name", ""]

FIXED: Final[frozenset[By]] = frozenset(("comment", "sample"))
"""By which a column has its attribute whatever it is called; by its name, the name says it."""


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """One row: what a column was when it was noted. ``default``: the expression over the spill that dyncdc gave it."""

    role: Role
    type: str
    origin: Origin | None = None
    by: By = ""
    default: str = ""
    number: int = 0
