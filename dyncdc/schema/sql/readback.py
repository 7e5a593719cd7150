"""Columns read back: the SELECT expression that gives a column's exact text, and the typed value that it means.

Apart from ``schema/types/families`` on purpose: ``verify`` judges the encoders by it, and must not share a mistake.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import ipaddress
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, cast

from dyncdc.schema.table_spec import ColumnSpec, Encoding
from dyncdc.schema.types.dynamodb_values import TypedValue
from dyncdc.schema.types.type_parser import TypeNode, parse_type

_EXACT: Final = decimal.Context(prec=400, Emin=-999, Emax=999)
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_DEFAULT_TEXTS: Final = {
    "UUID": "00000000-0000-0000-0000-000000000000",
    "IPv4": "0.0.0.0",  # noqa: S104 - the type's default value, not an address to listen on
    "IPv6": "::",
    "Date": "1970-01-01",
    "Date32": "1900-01-01",
    "Bool": "false",
    "Array": "[]",
    "Map": "{}",
}


class _Number(str):
    """A number of a JSON text, kept as its digits."""

    __slots__ = ()


def quote_identifier(name: str) -> str:
    """Return a column's name in backticks. Not ``quoting.quote_name``: the judge has its own."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def readback_expression(column: ColumnSpec) -> str:
    """Return the expression that gives a column's value as exact text, or NULL; arrays and maps as JSON of texts."""
    node = parse_type(column.type)
    name = quote_identifier(column.name)
    if column.encoding == "raw":
        return f"base64Encode({name})"
    if node.name in ("Array", "Map", "JSON"):
        return f"toJSONString({_textual(node, name, 0)})"
    return _textual(node, name, 0)


def _textual(node: TypeNode, value: str, depth: int) -> str:
    if node.name == "Array":
        return f"arrayMap(v{depth} -> {_textual(node.arguments[0], f'v{depth}', depth + 1)}, {value})"
    if node.name == "Map":
        inner = _textual(node.arguments[1], f"v{depth}", depth + 1)
        return f"mapApply((k{depth}, v{depth}) -> (toString(k{depth}), {inner}), {value})"
    if node.name == "JSON":
        return value
    if node.name in ("DateTime", "DateTime64"):
        return f"toString(toTimeZone({value}, 'UTC'))"
    return f"toString({value})"


@dataclass(frozen=True, slots=True)
class Reader:
    """How one column's text is understood."""

    node: TypeNode
    tag: str
    encoding: Encoding = ""

    def is_default(self, text: str) -> bool:
        """Whether this text is what the column shows for an absent attribute, when it cannot be NULL."""
        kind = self.node.name
        if self.node.nullable:
            return False
        if self.encoding == "raw":
            return text == "" or (kind == "FixedString" and not base64.b64decode(text).strip(b"\0"))
        if kind == "JSON":
            return _only_at({path for path, _ in self.node.paths}, json.loads(text))
        if kind in _DEFAULT_TEXTS:
            return text == _DEFAULT_TEXTS[kind]
        if kind == "String":
            return text == ""
        if kind == "FixedString":
            return text.strip("\0") == ""
        if kind.startswith("Enum"):
            values = dict(zip(self.node.numbers, self.node.texts, strict=True))
            return text == (values[0] if 0 in values else values[min(values)])
        if kind in ("DateTime", "DateTime64"):
            whole, _, fraction = text.partition(".")
            return whole == "1970-01-01 00:00:00" and not fraction.strip("0")
        return decimal.Decimal(text) == 0

    def read(self, text: str) -> TypedValue:
        """Return the typed value that the text means, in the column's own DynamoDB type."""
        if self.encoding == "typed":
            return cast(TypedValue, json.loads(text))
        return {self.tag: self._payload(text)}

    def read_or_default(self, text: str) -> TypedValue:
        """Like ``read``, also for an empty text where the type has no such value, as for numbers kept as text."""
        empty = self.node.name == "String" and text == "" and (self.tag not in ("S", "B") or self.encoding == "typed")
        return {"NULL": True} if empty else self.read(text)

    def _payload(self, text: str) -> object:
        if self.node.name in ("Array", "Map", "JSON"):
            return _collection(self.node, self.tag, json.loads(text))
        if self.node.name == "String" and self.tag in ("M", "L", "SS", "NS", "BS"):
            document = json.loads(text, parse_int=_Number, parse_float=_Number)
            return _typed(document)[self.tag] if self.tag in ("M", "L") else list(map(str, document))
        told = _scalar(self.node, self.tag, text)
        places = {"epoch_ms": 3, "epoch_us": 6}.get(self.encoding)
        return told if places is None else _number(str(_EXACT.scaleb(decimal.Decimal(str(told)), places)))


def _only_at(paths: Collection[str], document: object, path: str = "") -> bool:
    """Whether a document holds nothing but typed paths, which are always there."""
    if path in paths:
        return True
    entries = document.items() if isinstance(document, dict) else None
    step = f"{path}." if path else ""
    return entries is not None and all(_only_at(paths, inner, f"{step}{name}") for name, inner in entries)


def column_reader(type_text: str, tag: str, encoding: Encoding = "") -> Reader:
    """Return the reader of a column of this type whose own DynamoDB type is ``tag``. Raises ConfigError."""
    return Reader(parse_type(type_text), tag, encoding)


def _typed(document: object) -> TypedValue:
    """Return what a plain JSON text says, without sets and binary, which it cannot say."""
    if isinstance(document, dict):
        return {"M": {name: _typed(inner) for name, inner in document.items()}}
    if isinstance(document, list):
        return {"L": [_typed(inner) for inner in document]}
    if isinstance(document, _Number):
        return {"N": _number(document)}
    if isinstance(document, bool):
        return {"BOOL": document}
    return {"NULL": True} if document is None else {"S": cast(str, document)}


def _number(text: str) -> str:
    """Return a number in plain notation, without zeros that say nothing."""
    plain = format(decimal.Decimal(text).normalize(_EXACT), "f")
    return "0" if plain in ("-0", "0") else plain


def _boolean(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text]


def _moment(text: str) -> str:
    """ClickHouse's text of a moment in UTC as ISO 8601."""
    return text.replace(" ", "T") + "Z"


def _seconds(text: str) -> str:
    whole, _, fraction = text.partition(".")
    moment = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.UTC)
    seconds = (moment - _EPOCH) // datetime.timedelta(seconds=1)
    return _number(str(_EXACT.add(decimal.Decimal(seconds), decimal.Decimal(f"0.{fraction or 0}"))))


def _scalar(node: TypeNode, tag: str, text: str) -> object:
    if tag == "N":
        if node.name in ("DateTime", "DateTime64"):
            return _seconds(text)
        return str(int(_boolean(text))) if node.name == "Bool" else _number(text)
    if tag == "BOOL":
        return _boolean(text)
    if node.name in ("DateTime", "DateTime64"):
        return _moment(text)
    return str(ipaddress.IPv6Address(text)) if node.name == "IPv6" else text


_OWN: Final[dict[str, str]] = {"Array": "L", "Map": "M", "JSON": "M", "Bool": "BOOL", "Decimal": "N"}


def _own(node: TypeNode) -> str:
    numeric = node.name.startswith(("Int", "UInt", "Float", "Decimal"))
    return "N" if numeric else _OWN.get(node.name, "S")


def _collection(node: TypeNode, tag: str, document: object) -> object:
    if node.name == "Map":
        entries = cast(dict[str, object], document)
        return {name: _element(node.arguments[1], inner) for name, inner in entries.items()}
    if node.name == "JSON":
        return _typed(document)["M"]
    members = cast(list[object], document)
    inner = node.arguments[0]
    if tag == "L":
        return [_element(inner, member) for member in members]
    element = {"SS": "S", "NS": "N", "BS": "B"}[tag]
    return [_scalar(inner, element, cast(str, member)) for member in members]


def _element(node: TypeNode, document: object) -> TypedValue:
    if document is None:
        return {"NULL": True}
    own = _own(node)
    read: Callable[[], object] = (
        (lambda: _collection(node, own, document))
        if node.name in ("Array", "Map", "JSON")
        else (lambda: _scalar(node, own, cast(str, document)))
    )
    return {own: read()}
