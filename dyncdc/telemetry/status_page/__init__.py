"""The status page: what one daemon knows of itself, as one document, and the page that draws it. No values, no keys."""

from __future__ import annotations

from .builder import Overview
from .clickhouse_state import Stored
from .document import Document, TableFacts
from .recent_errors import Troubles
from .routes import add_page
from .throughput import Activity
from .worker_documents import merge_documents

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
