"""The comments by which columns remember the attribute that fills them. Pure text: ``dyncdc {json}``, behind whatever
someone else has written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, cast, get_args

import orjson

from dyncdc.config.attribute_paths import format_attribute_path, parse_attribute_path
from dyncdc.schema.table_spec import AttributeType, ColumnSpec, Encoding

_PREFIX: Final = "dyncdc "
_OURS: Final = re.compile(r"(?:^|\n)dyncdc (\{.*\})\s*\Z")
_TYPES: Final = frozenset(get_args(AttributeType))


@dataclass(frozen=True, slots=True)
class Origin:
    """What a comment says: the path of the attribute, and the DynamoDB types that its column takes."""

    path: tuple[str, ...]
    takes: tuple[AttributeType, ...]
    lossy: bool = False
    encoding: Encoding = ""


def column_comment(column: ColumnSpec) -> str:
    """Return the comment of a column."""
    content: dict[str, object] = {"attribute": format_attribute_path(column.path), "from": list(column.takes)}
    if column.lossy:
        content["lossy"] = True
    if column.encoding:
        content["encoding"] = column.encoding
    return _PREFIX + orjson.dumps(content).decode()


def joined_comment(theirs: str, column: ColumnSpec) -> str:
    """Return a comment that says what ours does, behind what someone else's says; an older one of ours is replaced."""
    found = _OURS.search(theirs)
    kept = (theirs[: found.start()] if found is not None else theirs).rstrip()
    return f"{kept}\n{column_comment(column)}" if kept else column_comment(column)


def read_comment(comment: str) -> Origin | None:
    """Return what one of our comments says, None for any other."""
    found = _OURS.search(comment)
    if found is None:
        return None
    try:
        content = orjson.loads(found[1])
        path = parse_attribute_path(content["attribute"])
        takes = tuple(content["from"])
        lossy = content.get("lossy") is True
        encoding = content.get("encoding", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # someone else's, or edited by hand: the column's name then decides
    if not takes or not _TYPES.issuperset(takes) or encoding not in get_args(Encoding):
        return None
    return Origin(path, cast("tuple[AttributeType, ...]", takes), lossy, cast(Encoding, encoding))
