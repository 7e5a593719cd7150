"""One change record, or one line of an export, from bytes to its fields. Knows no table and no column.

Images stay bytes until they are asked for: a record of an unknown table costs one pass, and an old image nothing at
all (so what is wrong inside an image that no one asks for is not noticed). Names repeated inside one JSON object cannot
come from DynamoDB; the last one counts. Source: AWS DynamoDB developer guide, Kinesis Data Streams.
"""

from __future__ import annotations

from typing import Final, Literal, cast

import msgspec
import orjson

from dyncdc.schema.types.reject_reasons import BAD_ENVELOPE, BAD_VERSION, NOT_JSON, TOO_DEEP, UndecodableRecord

EventName = Literal["INSERT", "MODIFY", "REMOVE"]
Image = dict[str, object]

MAX_VERSION: Final = 4_102_444_800_000_000
"""2100-01-01 in microseconds: a version from beyond would freeze its key, as nothing could ever be newer."""

MIN_VERSION: Final = 1_325_376_000_000_000
"""2012-01-01 in microseconds, just before DynamoDB began: what is older is in another unit, in seconds perhaps, and its
change would lose against every row as a version of 1970."""

MICROSECONDS_FROM: Final = 100_000_000_000_000
"""Without a stated precision, from here on a time is microseconds: as milliseconds it would lie in the year 5138."""

_NOTHING: Final = msgspec.Raw(b"")
_NULL: Final = b"null"
_SCALE: Final = {b'"MICROSECOND"': 1, b'"MILLISECOND"': 1000}


class _Body(msgspec.Struct, gc=False):
    keys: msgspec.Raw = msgspec.field(name="Keys")
    created: msgspec.Raw = msgspec.field(name="ApproximateCreationDateTime", default=_NOTHING)
    precision: msgspec.Raw = msgspec.field(name="ApproximateCreationDateTimePrecision", default=_NOTHING)
    new_image: msgspec.Raw = msgspec.field(name="NewImage", default=_NOTHING)
    old_image: msgspec.Raw = msgspec.field(name="OldImage", default=_NOTHING)


class _Record(msgspec.Struct, gc=False):
    event_name: EventName = msgspec.field(name="eventName")
    table_name: str = msgspec.field(name="tableName")
    body: _Body = msgspec.field(name="dynamodb")
    event_id: msgspec.Raw = msgspec.field(name="eventID", default=_NOTHING)
    identity: msgspec.Raw = msgspec.field(name="userIdentity", default=_NOTHING)


_read_record = msgspec.json.Decoder(_Record).decode


class Change:
    """One change record. Accessors raise UndecodableRecord when that part of the record is not what it should be."""

    __slots__ = ("_record", "event_name", "table")

    def __init__(self, record: _Record) -> None:
        self._record = record
        self.table: str = record.table_name
        self.event_name: EventName = record.event_name

    @property
    def version(self) -> int:
        """Creation time in microseconds since the epoch, whatever unit the record came in."""
        return version_in_microseconds(bytes(self._record.body.created), bytes(self._record.body.precision))

    @property
    def keys(self) -> Image:
        """The key attributes."""
        return _image(self._record.body.keys, "Keys")

    @property
    def new_image(self) -> Image:
        """The item as it is after the change; an INSERT and a MODIFY always have one."""
        return _image(self._record.body.new_image, "NewImage")

    @property
    def old_image(self) -> Image | None:
        """The item as it was before, None where the record has none."""
        raw = self._record.body.old_image
        return None if bytes(raw) in (b"", _NULL) else _image(raw, "OldImage")

    @property
    def by_ttl(self) -> bool:
        """Whether DynamoDB itself deleted the item because its time had come."""
        raw = bytes(self._record.identity)
        if raw in (b"", _NULL):
            return False
        identity = _load(raw)
        return (
            isinstance(identity, dict)
            and identity.get("type") == "Service"
            and identity.get("principalId") == "dynamodb.amazonaws.com"
        )

    @property
    def event_id(self) -> str:
        """The producer's own id of the event, "" where it has none: equal for duplicates."""
        raw = bytes(self._record.event_id)
        found = _load(raw) if raw else ""
        return found if isinstance(found, str) else ""


def read_change(record: bytes) -> Change:
    """Read the envelope of one Kinesis record. Raises UndecodableRecord."""
    try:
        found = _read_record(record)
    except msgspec.ValidationError as error:
        # The message names a path and JSON types, never what was found there.
        raise UndecodableRecord(BAD_ENVELOPE, f"reading a change record: {_without_values(error)}") from None
    except RecursionError:
        raise UndecodableRecord(TOO_DEEP, "reading a change record: nested too deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UndecodableRecord(NOT_JSON, "reading a change record: not JSON in UTF-8") from None
    if not found.table_name:
        raise UndecodableRecord(BAD_ENVELOPE, "reading a change record: it names no table")
    return Change(found)


def read_export_line(line: bytes) -> Image:
    """Return the item of one line ``{"Item": {...}}`` of an export. Raises UndecodableRecord."""
    document = _load(line)
    item = document.get("Item") if isinstance(document, dict) else None
    if not isinstance(item, dict):
        raise UndecodableRecord(BAD_ENVELOPE, "reading a line of an export: no Item")
    return item


def table_of(record: bytes) -> str:
    """Return the table that a broken record still names, or ""."""
    try:
        document = _load(record)
    except UndecodableRecord:
        return ""
    name = document.get("tableName") if isinstance(document, dict) else None
    return name if isinstance(name, str) else ""


def version_in_microseconds(created: bytes, precision: bytes) -> int:
    """Return the version that a creation time stands for, both given as JSON text, b"" for an absent field.

    Raises UndecodableRecord for what is no integer, or no time from 2012 to 2100. Without a precision (older records) a
    time is in milliseconds, unless it is so large that it can only be microseconds.
    """
    if not created.isdigit() or len(created) > len(str(MAX_VERSION)):
        raise UndecodableRecord(BAD_VERSION, "the creation time is not a positive integer of a plausible size")
    time = int(created)
    if precision in (b"", _NULL):
        time *= 1 if time >= MICROSECONDS_FROM else 1000
    elif precision in _SCALE:
        time *= _SCALE[precision]
    else:
        raise UndecodableRecord(BAD_VERSION, "the creation time has a precision other than MILLISECOND and MICROSECOND")
    if not MIN_VERSION <= time < MAX_VERSION:
        raise UndecodableRecord(
            BAD_VERSION, "the creation time is not between 2012 and 2100: its unit is not what it says"
        )
    return time


def _image(raw: msgspec.Raw, field: str) -> Image:
    if not raw or bytes(raw) == _NULL:
        raise UndecodableRecord(BAD_ENVELOPE, f"reading a change record: no {field}")
    image = _load(memoryview(raw))
    if not isinstance(image, dict):
        raise UndecodableRecord(BAD_ENVELOPE, f"reading a change record: {field} is not an object")
    return image


def _load(document: bytes | memoryview) -> object:
    try:
        return cast(object, orjson.loads(document))
    except orjson.JSONDecodeError:
        raise UndecodableRecord(NOT_JSON, "reading a record: not JSON in UTF-8, or nested too deep") from None


def _without_values(error: msgspec.ValidationError) -> str:
    """Keep only the path of a msgspec message: an unknown enum value is quoted in it."""
    _, found, path = str(error).rpartition(" - at ")
    return f"a field is missing or unexpected at {path}" if found else "a field is missing or of another type"
