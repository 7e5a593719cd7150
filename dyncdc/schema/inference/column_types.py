"""Which ClickHouse type a place of the sample gets, and why."""

from __future__ import annotations

from typing import Final

from dyncdc.schema.table_spec import Encoding

from .sample import Nested, Seen

_DICTIONARY_KEYS: Final = 12
"""A map that had more different keys than this, and far more than any one item has, is a dictionary: no columns."""


def is_dictionary(seen: Seen) -> bool:
    """Whether maps have names that vary like values, so that these make no columns."""
    return len(seen.children) > max(_DICTIONARY_KEYS, 2 * seen.largest_map)


def column_type(tag: str, seen: Seen, nested: Nested) -> tuple[str, str, Encoding]:
    """Return the type of a column for values of ``tag``, why, and how it encodes its values."""
    if tag in ("SS", "BS"):
        return "Array(String)", "sets of text" if tag == "SS" else "sets of binary, as base64", ""
    if tag == "NS":
        return f"Array({seen.numbers.type})", f"sets of numbers: {seen.numbers.why}", ""
    if tag == "L":
        found = _list_type(seen.elements)
        if found is not None:
            return *found, ""
    if tag in ("L", "M"):
        what = "lists of elements that differ or nest" if tag == "L" else "maps"
        if tag == "M" and nested == "flatten" and seen.children:
            what = f"maps used as a dictionary, {len(seen.children)} different keys"
        if nested == "typed":
            return "Nullable(String)", f"{what}, as DynamoDB's typed JSON", "typed"
        return "Nullable(String)", f"{what}, as JSON text", ""
    if tag == "N":
        return f"Nullable({seen.numbers.type})", seen.numbers.why, ""
    why = {"S": "text", "BOOL": "booleans", "B": "binary, as base64"}[tag]
    return "Nullable(Bool)" if tag == "BOOL" else "Nullable(String)", why, ""


def _list_type(elements: Seen | None) -> tuple[str, str] | None:
    """The array for lists whose elements are all of one scalar type, NULL aside."""
    if elements is None or len(elements.tags.keys() - {"NULL"}) != 1:
        return None
    inner = {"S": "String", "BOOL": "Bool", "N": elements.numbers.type}.get(elements.tag or "")
    if inner is None or (elements.tag == "N" and inner == "String"):
        return None  # an Array(String) takes S: there N would not fit
    what = {"S": "text", "BOOL": "booleans", "N": elements.numbers.why}[elements.tag or ""]
    inner = f"Nullable({inner})" if elements.tags["NULL"] else inner
    return f"Array({inner})", f"lists whose elements are all of one type: {what}"
