"""Attribute paths: text with dots and quotes to and from tuples of names."""

from __future__ import annotations


def parse_attribute_path(text: str) -> tuple[str, ...]:
    r"""Split ``customer.city`` into its names; ``'"a.b".c'`` is ``("a.b", "c")``.

    Dots step into maps. A name in double quotes may hold dots; inside quotes ``\"`` is a quote and ``\\`` a backslash.
    ``""`` is the empty name, which an attribute cannot have, but a key of a map can.

    Raises:
        ValueError: an empty name, an unclosed quote, or text after a closing quote.
    """
    names: list[str] = []
    at = 0
    while True:
        quoted = text[at : at + 1] == '"'
        name, at = _quoted(text, at + 1) if quoted else _plain(text, at)
        if not name and not (quoted and names):
            raise ValueError(f"attribute path has an empty name at character {at + 1}")
        names.append(name)
        if at == len(text):
            return tuple(names)
        if text[at] != ".":
            raise ValueError(f"attribute path needs a dot after the closing quote at character {at + 1}")
        at += 1


def format_attribute_path(path: tuple[str, ...]) -> str:
    """Write a path as text that ``parse_attribute_path`` reads back; names are quoted only where they must be."""
    return ".".join(_quote(name) if "." in name or name.startswith('"') or not name else name for name in path)


def _plain(text: str, at: int) -> tuple[str, int]:
    end = text.find(".", at)
    end = len(text) if end < 0 else end
    return text[at:end], end


def _quoted(text: str, at: int) -> tuple[str, int]:
    chars: list[str] = []
    while at < len(text):
        char = text[at]
        if char == '"':
            return "".join(chars), at + 1
        if char == "\\":
            at += 1
            char = text[at : at + 1]
        chars.append(char)
        at += 1
    raise ValueError("attribute path has a quote that is not closed")


def _quote(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
