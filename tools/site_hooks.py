"""Hooks of the documentation's site: adds the decisions to the menu, so that a new one needs no entry in mkdocs.yml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"


def on_config(config: Any) -> Any:
    """Called by MkDocs with what it read from mkdocs.yml."""
    decisions = sorted(path.relative_to(DOCS).as_posix() for path in (DOCS / "decisions").glob("*.md"))
    config["nav"].append({"Decisions": decisions})
    return config
