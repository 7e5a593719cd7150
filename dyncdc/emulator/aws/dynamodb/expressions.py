"""DynamoDB's expression language, read: text into a tree. Conditions and updates evaluate it elsewhere.

Source: AWS "Expressions" and "Condition and filter expressions, operators, and functions".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dyncdc.emulator.aws.server.wire import Wire

from .values import canonical_value, invalid

Step = str | int
COMPARATORS = ("=", "<>", "<", "<=", ">", ">=")
CONDITION_FUNCTIONS = ("attribute_exists", "attribute_not_exists", "attribute_type", "begins_with", "contains")
_TOKEN = re.compile(r"\s*(?:(?P<word>[#:]?[A-Za-z_0-9][A-Za-z0-9_]*)|(?P<mark><=|>=|<>|[=<>()\[\],.+\-]))")


@dataclass(frozen=True, slots=True)
class Path:
    """A document path: attribute name, then names of map entries and list indexes."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Literal:
    """A value given with the request, in its stored form."""

    value: Wire


@dataclass(frozen=True, slots=True)
class Call:
    """A function and its arguments, or ``+``, ``-``, a comparator, ``AND``, ``OR``, ``NOT``, ``BETWEEN``, ``IN``."""

    name: str
    arguments: tuple[Node, ...]


Node = Path | Literal | Call


class Parser:
    """Reads one expression. One instance an expression; the placeholders used are collected for the caller's check."""

    def __init__(self, text: str, names: Wire | None, values: Wire | None) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._names = names or {}
        self._values = values or {}

    def condition(self) -> Node:
        """Read a whole condition, filter or key condition."""
        node = self._or()
        self._end()
        return node

    def paths(self) -> list[Path]:
        """Read a whole projection."""
        found = [self._path()]
        while self._take(","):
            found.append(self._path())
        self._end()
        return found

    def update(self) -> list[tuple[str, Path, Node | None]]:
        """Read a whole update: (SET | REMOVE | ADD | DELETE, path, value)."""
        actions: list[tuple[str, Path, Node | None]] = []
        while self._peek():
            clause = self._next().upper()
            if clause not in ("SET", "REMOVE", "ADD", "DELETE"):
                raise invalid("Invalid UpdateExpression: Syntax error")
            actions.append(self._action(clause))
            while self._take(","):
                actions.append(self._action(clause))
        if not actions:
            raise invalid("Invalid UpdateExpression: The expression can not be empty;")
        return actions

    def _action(self, clause: str) -> tuple[str, Path, Node | None]:
        path = self._path()
        if clause == "REMOVE":
            return clause, path, None
        if clause == "SET":
            self._expect("=")
            node = self._operand()
            while self._peek() in ("+", "-"):
                node = Call(self._next(), (node, self._operand()))
            return clause, path, node
        return clause, path, self._operand()

    def _or(self) -> Node:
        node = self._and()
        while self._word("OR"):
            node = Call("OR", (node, self._and()))
        return node

    def _and(self) -> Node:
        node = self._not()
        while self._word("AND"):
            node = Call("AND", (node, self._not()))
        return node

    def _not(self) -> Node:
        if self._word("NOT"):
            return Call("NOT", (self._not(),))
        if self._take("("):
            node = self._or()
            self._expect(")")
            return node
        return self._predicate()

    def _predicate(self) -> Node:
        left = self._operand()
        if isinstance(left, Call) and left.name in CONDITION_FUNCTIONS:
            return left
        if self._peek() in COMPARATORS:
            return Call(self._next(), (left, self._operand()))
        if self._word("BETWEEN"):
            low = self._operand()
            if not self._word("AND"):
                raise invalid("Invalid expression: Syntax error; BETWEEN needs AND")
            return Call("BETWEEN", (left, low, self._operand()))
        if self._word("IN"):
            self._expect("(")
            return Call("IN", (left, *self._arguments()))
        raise invalid(f"Invalid expression: Syntax error; token: {self._peek() or '<EOF>'}")

    def _operand(self) -> Node:
        token = self._peek()
        if token.startswith(":"):
            self._at += 1
            if token not in self._values:
                raise invalid(
                    f"An expression attribute value used in expression is not defined; attribute value: {token}"
                )
            return Literal(canonical_value(self._values[token])[0])
        if self._at + 1 < len(self._tokens) and self._tokens[self._at + 1] == "(" and token[:1].isalpha():
            self._at += 2
            return Call(token, self._arguments())
        return self._path()

    def _arguments(self) -> tuple[Node, ...]:
        arguments = [self._operand()]
        while self._take(","):
            arguments.append(self._operand())
        self._expect(")")
        return tuple(arguments)

    def _path(self) -> Path:
        steps: list[Step] = [self._name()]
        while True:
            if self._take("."):
                steps.append(self._name())
            elif self._take("["):
                steps.append(int(self._next()))
                self._expect("]")
            else:
                return Path(tuple(steps))

    def _name(self) -> str:
        token = self._next()
        if token.startswith("#"):
            if token not in self._names:
                raise invalid(
                    f"An expression attribute name used in the document path is not defined; attribute name: {token}"
                )
            return str(self._names[token])
        if not token or not (token[0].isalnum() or token[0] == "_"):
            raise invalid(f"Invalid expression: Syntax error; token: {token or '<EOF>'}")
        return token

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _take(self, token: str) -> bool:
        found = self._peek() == token
        self._at += found
        return found

    def _word(self, word: str) -> bool:
        found = self._peek().upper() == word
        self._at += found
        return found

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise invalid(f"Invalid expression: Syntax error; token: {self._peek() or '<EOF>'}, expected: {token}")

    def _end(self) -> None:
        if self._peek():
            raise invalid(f"Invalid expression: Syntax error; token: {self._peek()}")


def find(path: Path, item: Wire) -> Wire | None:
    """Return the value at a path, or None when there is none."""
    value: Wire | None = item.get(path.steps[0])  # type: ignore[arg-type]  # the first step is a name
    for step in path.steps[1:]:
        if value is None:
            return None
        if isinstance(step, str):
            value = value.get("M", {}).get(step)
        else:
            elements = value.get("L", [])
            value = elements[step] if step < len(elements) else None
    return value


def project(paths: list[Path], item: Wire) -> Wire:
    """Return the parts of an item that the paths name. List elements keep their order, not their index."""
    kept: Wire = {}
    for path in paths:
        value = find(path, item)
        if value is None:
            continue
        for step in reversed(path.steps[1:]):
            value = {"M": {step: value}} if isinstance(step, str) else {"L": [value]}
        name = str(path.steps[0])
        kept[name] = _merged(kept[name], value) if name in kept else value
    return kept


def _merged(one: Wire, other: Wire) -> Wire:
    if "M" in one and "M" in other:
        entries = dict(one["M"])
        for name, value in other["M"].items():
            entries[name] = _merged(entries[name], value) if name in entries else value
        return {"M": entries}
    if "L" in one and "L" in other:
        return {"L": [*one["L"], *other["L"]]}
    return other


def _tokens(text: str) -> list[str]:
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise invalid(f"Invalid expression: Syntax error; token: {text[at]}")
        found.append(match["word"] or match["mark"])
        at = match.end()
    return found
