"""Records of tables with attributes left out or masked, as a dead letter may keep them. Pure.

Fails closed: of a record that cannot be read, or whose table is not known, nothing is kept but its length; of one that
can, only the fields that DynamoDB is known to write.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import orjson

from dyncdc.schema.redaction import Path, Redaction

MASKED: Final = "dyncdc_masked"
"""Member of a kept record: which paths are masked in it already, so that a replay does not mask them again."""

WITHHELD: Final = "dyncdc_withheld"
"""The only member of what is kept of a record that cannot be kept: ``{"dyncdc_withheld": {"bytes": 1234}}``."""

_PLAIN: Final = ("awsRegion", "eventID", "eventName", "recordFormat", "tableName", "eventSource")
_BODY: Final = ("ApproximateCreationDateTime", "ApproximateCreationDateTimePrecision", "SizeBytes")
_IMAGES: Final = ("NewImage", "OldImage")


def withheld(record: bytes) -> bytes:
    """Return what is kept of a record that cannot be kept."""
    return orjson.dumps({WITHHELD: {"bytes": len(record)}})


def is_withheld(raw: bytes) -> bool:
    """Whether a dead letter holds nothing of its record."""
    return raw.startswith(b'{"%b":' % WITHHELD.encode())


def redacted_record(record: bytes, redaction: Redaction, keys: Collection[str]) -> bytes:
    """Return a change record, or a line of an export, as a dead letter keeps it. ``keys``: the key attributes."""
    document = _object(record)
    body, item = document.get("dynamodb"), document.get("Item")
    if isinstance(body, dict):
        found = _change(document, body, redaction, keys)
    elif isinstance(item, dict):
        found = {"Item": redaction.apply_to_damaged(item)}
    else:
        return withheld(record)
    try:
        return orjson.dumps({**found, MASKED: redaction.mask})
    except orjson.JSONEncodeError:  # nested too deep to be written
        return withheld(record)


def _change(
    document: Mapping[str, object], body: Mapping[str, object], redaction: Redaction, keys: Collection[str]
) -> dict[str, object]:
    kept: dict[str, object] = {name: document[name] for name in _PLAIN if isinstance(document.get(name), str)}
    identity = document.get("userIdentity")
    if isinstance(identity, dict):
        kept["userIdentity"] = {name: text for name, text in identity.items() if isinstance(text, str)}
    inner: dict[str, object] = {name: body[name] for name in _BODY if type(body.get(name)) in (int, str)}
    found = body.get("Keys")
    if isinstance(found, dict):
        inner["Keys"] = {name: value for name, value in found.items() if name in keys}
    for name in _IMAGES:
        image = body.get(name)
        if isinstance(image, dict):
            inner[name] = redaction.apply_to_damaged(image)
    return kept | {"dynamodb": inner}


def masked_paths(raw: bytes) -> tuple[Path, ...]:
    """Return which paths are masked already in a dead letter's record."""
    found = _object(raw).get(MASKED)
    return tuple(tuple(path) for path in found) if isinstance(found, list) else ()


def _object(record: bytes) -> dict[str, object]:
    try:
        document = orjson.loads(record)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}
