"""The servers of the end-to-end tests, for the one test here that runs a daemon."""

from __future__ import annotations

from e2e.conftest import aws, clickhouse, place

__all__ = ["aws", "clickhouse", "place"]
