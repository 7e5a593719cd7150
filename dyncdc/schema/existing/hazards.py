"""What a table's definition may hold that takes rows away or shows old ones: TTL, projections, computed columns. Pure.

Reads the texts that the server prints of a table, which quote names and values in one way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_QUOTED: Final = re.compile(r"'[^'\\]*(?:\\.[^'\\]*)*'|`[^`\\]*(?:\\.[^`\\]*)*`", re.DOTALL)
"""Long runs at once: this is looked for every few seconds in texts of a hundred kilobytes and more."""
_TTL: Final = re.compile(r"\bTTL (.*?)(?= SETTINGS |\Z)", re.DOTALL)
_MOVES: Final = re.compile(r"\b(?:TO (?:DISK|VOLUME)|RECOMPRESS)\b")
_PROJECTION: Final = re.compile(r"PROJECTION\b")
_CONSTRAINT: Final = re.compile(r"CONSTRAINT\b")
_PARENTHESIS: Final = re.compile(r"[()]")
_SEPARATOR: Final = re.compile(r"[(),]")
_REBUILT: Final = re.compile(r"deduplicate_merge_projection_mode = '(?:drop|rebuild)'")


@dataclass(frozen=True, slots=True)
class Hazards:
    """What was found. ``row_ttl``: its text, "" for none; the others are names."""

    row_ttl: str
    column_ttls: tuple[str, ...]
    projections: tuple[str, ...]
    constraints: tuple[str, ...]


def find_hazards(engine_full: str, create_query: str) -> Hazards:
    """Look through ``engine_full`` and ``create_table_query`` of ``system.tables``."""
    parts = list(_elements(create_query))
    return Hazards(
        _row_ttl(engine_full),
        tuple(_name(part) for part in parts if part.startswith("`") and _TTL.search(_masked(part))),
        () if _REBUILT.search(engine_full) else tuple(_second(part) for part in parts if _PROJECTION.match(part)),
        tuple(_second(part) for part in parts if _CONSTRAINT.match(part)),
    )


def _row_ttl(engine_full: str) -> str:
    """The first rule that removes or merges rows; moving and recompressing them is harmless."""
    found = _TTL.search(_masked(engine_full))
    if found is None:
        return ""
    rules = split_list(engine_full[found.start(1) : found.end(1)])
    return next((rule for rule in rules if not _MOVES.search(_masked(rule))), "")


def _masked(sql: str) -> str:
    """The text with what is quoted blotted out, at the same places."""
    return _QUOTED.sub(lambda found: "_" * len(found[0]), sql)


def _elements(create_query: str) -> Iterator[str]:
    """What stands between the parentheses behind the table's name: columns, indexes, projections, constraints."""
    masked = _masked(create_query)
    begin = masked.find("(")
    depth = 0
    for found in _PARENTHESIS.finditer(masked, begin) if begin >= 0 else ():
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            yield from split_list(create_query[begin + 1 : found.start()])
            return


def split_list(text: str) -> list[str]:
    """Split at the commas that are inside of nothing."""
    parts, depth, begin = [], 0, 0
    for found in _SEPARATOR.finditer(_masked(text)):
        depth += (found[0] == "(") - (found[0] == ")")
        if found[0] == "," and depth == 0:
            parts.append(text[begin : found.start()].strip())
            begin = found.end()
    return [*parts, text[begin:].strip()]


def _name(element: str) -> str:
    quoted = _QUOTED.match(element)
    text = quoted[0] if quoted is not None else element.partition(" ")[0]
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if quoted is not None else text


def _second(element: str) -> str:
    return _name(element.partition(" ")[2])
