"""Whether attributes left out or masked, and the columns of a table, can all be meant."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from .attribute_paths import format_attribute_path, parse_attribute_path

Path = tuple[str, ...]


def check_redaction_rules(exclude: Sequence[str], mask: Sequence[str], columns: Iterable[Path]) -> None:
    """Raise ValueError for a path named twice or leading to another one, and for a column that nothing could fill."""
    hidden = sorted((parse_attribute_path(text), kind) for kind, texts in _kinds(exclude, mask) for text in texts)
    for (first, one), (second, other) in itertools.pairwise(hidden):
        if first == second:
            where = one if one == other else f"both {one} and {other}"
            raise ValueError(f"{format_attribute_path(first)} is named twice in {where}")
        if leads_to(first, second):
            inner = format_attribute_path(second)
            raise ValueError(f"{one} {format_attribute_path(first)} holds {other} {inner}: keep one of them")
    for path in columns:
        for found, kind in hidden:
            if leads_to(found, path) and (kind == "exclude" or found != path):
                column, name = format_attribute_path(path), format_attribute_path(found)
                raise ValueError(f"a column takes {column}, and {kind} {name} leaves nothing there")


def leads_to(path: Path, other: Path) -> bool:
    """Whether a path is another one, or leads to it."""
    return other[: len(path)] == path


def _kinds(exclude: Sequence[str], mask: Sequence[str]) -> Iterable[tuple[str, Sequence[str]]]:
    return ("exclude", exclude), ("mask", mask)
