"""Histories on several replicas of ClickHouse over ZooKeeper. Each replica must end equal."""

from __future__ import annotations

from .faults import disturb
from .judge import CATCH_UP_SECONDS, expect_one_truth
from .world import make_world

__all__ = ["CATCH_UP_SECONDS", "disturb", "expect_one_truth", "make_world"]
