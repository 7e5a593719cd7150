"""The commands that the pages for operators show: fenced blocks, command by command, and those within the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .tools import ROOT

PAGES = tuple(
    ROOT / page
    for page in (
        "README.md",
        "deploy/aws/README.md",
        "docs/operations/guide.md",
        "docs/operations/alerts.md",
        "docs/upgrade.md",
        "docs/dead-letters.md",
        "docs/evolution.md",
    )
)

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(dyncdc [a-z][^`]*)`")
_OFF_SHELL = re.compile(r"^\[\w+\]$", re.MULTILINE)
_COMMENT = re.compile(r"(?:^|\s+)#.*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block. ``language``: "" where the page names none."""

    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Its shell commands without comments, each on one line."""
        if self.language not in ("", "sh") or _OFF_SHELL.search(self.text):
            return []
        lines = _COMMENT.sub("", re.sub(r"\\\n\s*", "", self.text)).splitlines()
        return [line for line in map(str.strip, lines) if line]


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    return [Block(language, text) for language, text in _BLOCK.findall(page.read_text())]


def inline_commands(page: Path) -> Iterator[str]:
    """Commands of ours in the text of a page."""
    text = _BLOCK.sub("", page.read_text())
    yield from (" ".join(found.split()) for found in _INLINE.findall(text))
