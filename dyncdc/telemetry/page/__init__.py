"""The status page: what one daemon knows of itself, as one document, and the page that draws it. No values, no keys."""

from __future__ import annotations

from .activity import Activity
from .document import Document, TableFacts
from .merge import merge_documents
from .overview import Overview
from .site import add_page
from .stored import Stored
from .troubles import Troubles

__all__ = [
    "Activity",
    "Document",
    "Overview",
    "Stored",
    "TableFacts",
    "Troubles",
    "add_page",
    "merge_documents",
]
