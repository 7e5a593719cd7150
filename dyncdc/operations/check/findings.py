"""Findings: what ``check`` has to say, one line each, with what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the setup. ``subject`` is what it is about, ``todo`` the command or change that fixes it."""

    level: Level
    subject: str
    text: str
    todo: str = ""

    def line(self) -> str:
        """The finding as ``check`` prints it."""
        return f"{self.level:<7}  {self.subject}: {self.text}{f'; {self.todo}' if self.todo else ''}"


def breaks(findings: Iterable[Finding]) -> bool:
    """Whether any finding would stop ``run``."""
    return any(finding.level == "error" for finding in findings)
