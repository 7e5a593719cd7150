"""What never leaves DynamoDB: attributes left out, and attributes replaced by a keyed hash. Pure.

Applied to an item before anything else looks at it, so that columns, spill, history and dead letters see only what is
left. A path steps into maps, and on its way into every element of a list: what a path names is never passed by because
it was wrapped in a list.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import orjson

from dyncdc.schema.types.dynamodb_values import bad_value, canonical, null, unpack

Path = tuple[str, ...]
"""An attribute's name, then map keys."""

MIN_KEY_BYTES: Final = 16
"""A shorter key could be tried out, and with it every hashed address or number."""

_UNREADABLE: Final[dict[str, object]] = {"dyncdc_unreadable": True}
"""Stands in a dead letter for what could not be masked: no DynamoDB value, so the dead letter stays one."""


@dataclass(slots=True)
class _Node:
    """A place that something is done about, or in which."""

    action: Literal["", "exclude", "mask"] = ""
    children: dict[str, _Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Redaction:
    """Paths to leave out and to mask. ``key``: of the hash, at least ``MIN_KEY_BYTES`` where anything is masked.

    No path may be, or lead to, another one: the configuration refuses that.
    """

    exclude: tuple[Path, ...] = ()
    mask: tuple[Path, ...] = ()
    key: bytes = field(default=b"", repr=False)
    _root: _Node = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        root = _Node()
        for path in self.exclude:
            _place(root, path).action = "exclude"
        for path in self.mask:
            _place(root, path).action = "mask"
        object.__setattr__(self, "_root", root)

    def __bool__(self) -> bool:
        return bool(self.exclude or self.mask)

    def apply(self, item: Mapping[str, object]) -> dict[str, object]:
        """Return what is left of an item, which stays as it is. Raises UndecodableRecord for what is no value."""
        left = dict(item)
        for name, node in self._root.children.items():
            if name in left:
                self._redact(left, name, node)
        return left

    def apply_to_damaged(self, item: Mapping[str, object]) -> dict[str, object]:
        """As ``apply``, for dead letters: an attribute that cannot be read, and holds such a path, is left out whole.

        Something that is no DynamoDB value takes its place, so that the item stays one that cannot be decoded.
        """
        left = dict(item)
        for name, node in self._root.children.items():
            if name in left:
                try:
                    self._redact(left, name, node)
                except (ValueError, RecursionError):
                    left[name] = _UNREADABLE
        return left

    def without_masks(self, masked: Iterable[Path]) -> Redaction:
        """Return what is still to be done to an item in which these paths are masked already."""
        done = set(masked)
        return Redaction(self.exclude, tuple(path for path in self.mask if path not in done), self.key)

    def hides(self, path: Path) -> bool:
        """Whether nothing can ever be at a path: it is left out, or lies inside of what is left out or masked."""
        above = any(path[: len(other)] == other for other in self.exclude)
        return above or any(len(path) > len(other) and path[: len(other)] == other for other in self.mask)

    def masks(self, path: Path) -> bool:
        """Whether exactly this path is masked: there is an S of 64 hexadecimal digits, or NULL."""
        return path in self.mask

    def _redact(self, holder: dict[str, object], name: str, node: _Node) -> None:
        if node.action == "exclude":
            del holder[name]
        else:
            holder[name] = self._masked(holder[name]) if node.action == "mask" else self._inside(holder[name], node)

    def _inside(self, value: object, node: _Node) -> object:
        tag, payload = unpack(value)
        if tag == "M":
            if type(payload) is not dict:
                raise bad_value("an M value is not a JSON object")
            left = dict(payload)
            for name, child in node.children.items():
                if name in left:
                    self._redact(left, name, child)
            return {"M": left}
        if tag == "L":
            if type(payload) is not list:
                raise bad_value("a list or set is not a JSON array")
            return {"L": [self._inside(each, node) for each in payload]}
        return value

    def _masked(self, value: object) -> object:
        tag, payload = unpack(value)
        if tag == "NULL":
            return {"NULL": null(payload)}
        text = orjson.dumps(canonical(value), option=orjson.OPT_SORT_KEYS)
        return {"S": hmac.new(self.key, text, hashlib.sha256).hexdigest()}


NOTHING_HIDDEN: Final = Redaction()


def _place(root: _Node, path: Path) -> _Node:
    node = root
    for name in path:
        node = node.children.setdefault(name, _Node())
    return node
