"""What a destination table looks like to the decoder: the mapping, resolved and checked. Plain values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from .redaction import NOTHING_HIDDEN, Redaction

AttributeType = Literal["S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "L", "M"]

Encoding = Literal["", "typed", "raw", "epoch_ms", "epoch_us"]
"""How a column holds its values: by their type (""); a String as DynamoDB's typed JSON, or (B only) as raw bytes; a
DateTime or DateTime64 (N only) as milliseconds or microseconds since 1970 rather than seconds."""

SEQUENCE_BITS: Final = 192
"""Room for the sequence number below the microseconds of a UInt256 version. Source: AWS Kinesis, up to 186 bits."""


@dataclass(frozen=True, slots=True)
class KeyAttribute:
    """One attribute of the DynamoDB primary key, HASH first, then RANGE."""

    name: str
    type: Literal["S", "N", "B"]


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column that an attribute, or a path into a map, fills.

    ``path`` is the attribute's name, then map keys. ``type`` is the ClickHouse type as ``system.columns`` prints it.
    ``takes`` names the DynamoDB types it accepts; the first is its own, values of a further one also go to the spill.
    ``lossy``: do not also keep in the spill what this column blurs. ``encoding``: see ``Encoding``. ``defaulted``: it
    has a DEFAULT of someone else's, which applies where an item has no value.
    """

    name: str
    type: str
    path: tuple[str, ...]
    takes: tuple[AttributeType, ...]
    lossy: bool = False
    key: bool = False
    encoding: Encoding = ""
    defaulted: bool = False


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One DynamoDB table and the ClickHouse table that mirrors it. Column names of "" mean that the table has none."""

    source_table: str
    destination: str
    keys: tuple[KeyAttribute, ...]
    columns: tuple[ColumnSpec, ...]
    """Key columns included."""
    version_column: str = "_version"
    version_type: str = "Int64"
    """Int64 or UInt64: microseconds. UInt256: (microseconds << SEQUENCE_BITS) | sequence number."""
    deleted_column: str = "_deleted"
    spill_column: str = "_spill"
    deletes: Literal["tombstone", "ignore"] = "tombstone"
    redaction: Redaction = NOTHING_HIDDEN
    """What is left out of every item, or masked, before anything looks at it."""
    ttl_deletes: Literal["delete", "keep"] = "delete"
    """``keep``: an item that DynamoDB deletes because its time has come stays, with ``expired_column`` set to 1."""
    expired_column: str = ""
    history: str = ""
    """Table that keeps every change, "" for none."""
    base_microseconds: int = 0
    """How long after its version a snapshot's row is known to hold: the margin, and the minute of an export's time."""
