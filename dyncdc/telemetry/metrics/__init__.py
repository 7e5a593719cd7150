"""The Prometheus metrics of the daemon."""

from .metrics import OTHER_TABLES, TABLES_SEEN, Metrics

__all__ = ["OTHER_TABLES", "TABLES_SEEN", "Metrics"]
