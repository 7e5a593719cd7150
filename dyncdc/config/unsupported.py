"""What the configuration will have and this version has not: refused, so that no one believes it is in force."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UnsupportedKey:
    """Which values of a key are refused: ``values`` in words, "" for all of them."""

    values: str
    test: Callable[[object], bool]


_ANY = UnsupportedKey("", lambda _: True)


def _value(refused: object) -> UnsupportedKey:
    return UnsupportedKey(str(refused).lower(), lambda value: value == refused)


UNAVAILABLE: Mapping[str, UnsupportedKey] = {
    "kinesis.fan_out": _value(True),
}
"""Key path to which of its values are refused. To bring a feature in, delete its line."""


def wholly_unsupported(path: str) -> bool:
    """Whether a key (no indexes in ``path``) takes no value at all in this version."""
    return any(UNAVAILABLE.get(prefix) is _ANY for prefix in (path, path.partition(".")[0]))


def unsupported_values(path: str) -> str:
    """Which values of a key (no indexes in ``path``) this version refuses, in words; "" for none."""
    refused = UNAVAILABLE.get(path)
    return refused.values if refused is not None else ""


def find_unsupported(document: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield (key path with indexes, what is refused) for each refused key of an unchecked document."""
    for pattern, refused in UNAVAILABLE.items():
        for path, value in _lookup(document, pattern.split("."), ""):
            if refused.test(value):
                yield path, "" if refused is _ANY else f" = {_literal(value)}"


def _lookup(node: object, names: list[str], path: str) -> Iterator[tuple[str, object]]:
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from _lookup(item, names, f"{path}[{index}]")
    elif isinstance(node, Mapping) and names and names[0] in node:
        inner = f"{path}.{names[0]}" if path else names[0]
        yield from _lookup(node[names[0]], names[1:], inner)
    elif not names:
        yield path, node


def _literal(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
