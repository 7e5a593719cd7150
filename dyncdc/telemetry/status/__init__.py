"""The status of a pipeline as values, that of one daemon, and the page that draws it. No item values, no keys."""

from __future__ import annotations

from .builder import StatusBuilder, StatusSources
from .clickhouse_state import ClickHouseState, LatestState
from .model import DaemonStatus, TableFacts
from .recent_errors import RecentErrors
from .routes import add_page
from .throughput import Throughput
from .workers import merge_statuses

__all__ = [
    "ClickHouseState",
    "DaemonStatus",
    "LatestState",
    "RecentErrors",
    "StatusBuilder",
    "StatusSources",
    "TableFacts",
    "Throughput",
    "add_page",
    "merge_statuses",
]
