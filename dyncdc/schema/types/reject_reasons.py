"""Reasons of dead letters, all of them, and the exception that carries one to the dead-letter table."""

from __future__ import annotations

from typing import Final

NOT_JSON: Final = "not_json"
"""The bytes are not JSON: truncated, not UTF-8, or another format altogether (aggregated records included)."""

BAD_ENVELOPE: Final = "bad_envelope"
"""JSON, but not a change record (or an export's line): a field is missing, of another type, or contradicts another."""

BAD_VERSION: Final = "bad_version"
"""The creation time, or the sequence number where the version needs one, cannot order anything."""

BAD_VALUE: Final = "bad_value"
"""An attribute is not a DynamoDB value: unknown type, number out of range, invalid base64."""

TOO_DEEP: Final = "too_deep"
"""Maps and lists nested deeper than dyncdc follows; DynamoDB itself allows 32 levels."""

KEY_DOES_NOT_FIT: Final = "key_does_not_fit"
"""A key attribute that its column cannot hold exactly, or a key that is not this table's."""

MISFIT: Final = "misfit"
"""A value that its column cannot hold exactly, in a table without a spill column."""

REASONS: Final = (NOT_JSON, BAD_ENVELOPE, BAD_VERSION, BAD_VALUE, TOO_DEEP, KEY_DOES_NOT_FIT, MISFIT)
"""Reasons of records that cannot become a row."""

REFUSED_BY_CLICKHOUSE: Final = "refused_by_clickhouse"
"""The record decoded well, and ClickHouse refused its row. ``raw`` is the record; the row where that is gone."""

LIMIT_REACHED: Final = "limit_reached"
"""No record at all: where a session stopped for too many dead letters."""


class UndecodableRecord(ValueError):
    """This record becomes a dead letter. ``detail`` names columns and types, never a value of the item."""

    def __init__(self, reason: str, detail: str, *, column: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.column = column
