"""The status page: what one daemon knows of itself, as one document, and the page that draws it. No values, no keys."""

from __future__ import annotations

from .builder import StatusBuilder
from .clickhouse_state import ClickHouseState
from .model import Document, TableFacts
from .recent_errors import RecentErrors
from .routes import add_page
from .throughput import Throughput
from .workers import merge_documents

__all__ = [
    "ClickHouseState",
    "Document",
    "RecentErrors",
    "StatusBuilder",
    "TableFacts",
    "Throughput",
    "add_page",
    "merge_documents",
]
