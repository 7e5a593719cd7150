"""ClickHouse type text, as ``system.columns`` prints it, into a tree. Knows the grammar, not what the types hold."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from dyncdc.errors import ConfigError

_TOKEN = re.compile(r"\s*(?:([A-Za-z_][A-Za-z0-9_]*)|'((?:[^'\\]|\\.|'')*)'|(-?[0-9]+)|([(),=]))", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)|''", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f", "a": "\a", "v": "\v"}
_JSON_PATH = re.compile(r"\s*((?:`(?:[^`\\]|\\.)*`|[^\s`,()'=])+)\s+(?=[A-Za-z])", re.DOTALL)
_JSON_SETTING = re.compile(
    r"\s*(?:[a-z_]+\s*=\s*[0-9]+|SKIP\s+REGEXP\s+'(?:[^'\\]|\\.|'')*'|SKIP\s+(?:`(?:[^`\\]|\\.)*`|[^\s`,()'=])+)",
    re.DOTALL,
)
_MAX_NESTING = 16


@dataclass(frozen=True, slots=True)
class TypeNode:
    """``Array(Nullable(Int8))`` is a node with one node as argument; ``nullable`` and LowCardinality are folded in."""

    name: str
    arguments: tuple[TypeNode, ...] = ()
    numbers: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    """Quoted arguments, such as time zones and the names of an Enum (their values are in ``numbers``)."""
    nullable: bool = False
    paths: tuple[tuple[str, TypeNode], ...] = ()
    """Typed paths of a JSON, by the path as it stands in documents."""

    @property
    def label(self) -> str:
        """The type for messages, without the names of an Enum."""
        inner = [*(node.label for node in self.arguments), *map(str, self.numbers if not self.texts else ())]
        plain = f"{self.name}({', '.join(inner)})" if inner else self.name
        return f"Nullable({plain})" if self.nullable else plain


def parse_type(text: str) -> TypeNode:
    """Parse a type. Raises ConfigError when it is not one."""
    parser = _Parser(text)
    node = parser.node(0)
    parser.expect_end()
    return node


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def node(self, nesting: int) -> TypeNode:
        name = self._take(1)
        if name is None or nesting > _MAX_NESTING:
            raise self._error()
        arguments: list[TypeNode] = []
        numbers: list[int] = []
        texts: list[str] = []
        paths: list[tuple[str, TypeNode]] = []
        if name == "JSON" and self._accept("("):
            self._json_parameters(nesting, paths)
        elif self._accept("("):
            while not self._accept(")"):
                self._argument(nesting, arguments, numbers, texts)
                if not self._accept(",") and not self._peek(")"):
                    raise self._error()
        return self._folded(TypeNode(name, tuple(arguments), tuple(numbers), tuple(texts), paths=tuple(paths)))

    def expect_end(self) -> None:
        if self._text[self._at :].strip():
            raise self._error()

    def _argument(self, nesting: int, arguments: list[TypeNode], numbers: list[int], texts: list[str]) -> None:
        quoted = self._take(2)
        if quoted is not None:
            texts.append(_ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]) if match[1] else "'", quoted))
            if not self._accept("="):
                return
        number = self._take(3)
        if number is not None:
            numbers.append(int(number))
        elif quoted is None:
            arguments.append(self.node(nesting + 1))
        else:
            raise self._error()

    def _json_parameters(self, nesting: int, paths: list[tuple[str, TypeNode]]) -> None:
        """Typed paths; settings, and what is skipped, are no business of a cell."""
        while not self._accept(")"):
            setting = _JSON_SETTING.match(self._text, self._at)
            path = None if setting is not None else _JSON_PATH.match(self._text, self._at)
            if setting is not None:
                self._at = setting.end()
            elif path is not None:
                self._at = path.end()
                paths.append((_without_backticks(path[1]), self.node(nesting + 1)))
            if (setting is None and path is None) or not (self._accept(",") or self._peek(")")):
                raise self._error()

    def _folded(self, node: TypeNode) -> TypeNode:
        if node.name not in ("Nullable", "LowCardinality"):
            return node
        if len(node.arguments) != 1 or node.numbers or node.texts:
            raise self._error()
        inner = node.arguments[0]
        nullable = inner.nullable or node.name == "Nullable"
        return replace(inner, nullable=nullable)

    def _take(self, group: int) -> str | None:
        match = _TOKEN.match(self._text, self._at)
        if match is None or match[group] is None:
            return None
        self._at = match.end()
        return match[group]

    def _peek(self, mark: str) -> bool:
        match = _TOKEN.match(self._text, self._at)
        return match is not None and match[4] == mark

    def _accept(self, mark: str) -> bool:
        return self._peek(mark) and self._take(4) is not None

    def _error(self) -> ConfigError:
        return ConfigError(f"reading the column type {self._text!r}", hint="give a type as system.columns prints it")


def _without_backticks(path: str) -> str:
    return re.sub(r"`((?:[^`\\]|\\.)*)`", lambda quoted: re.sub(r"\\(.)", r"\1", quoted[1]), path)
