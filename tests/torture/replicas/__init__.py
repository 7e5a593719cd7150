"""Histories on several replicas of ClickHouse over ZooKeeper. Each replica must end equal."""

from __future__ import annotations

from .faults import disturb
from .judge import expect_one_truth
from .world import make_world

__all__ = ["disturb", "expect_one_truth", "make_world"]
