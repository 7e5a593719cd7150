"""The stage of the traps: the daemon's code in the test's process, between the local AWS and a real ClickHouse."""

from __future__ import annotations

from pathlib import Path

import pytest
from traps.conftest import STAGE_TIMEOUT_SECONDS, stage

__all__ = ["stage"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole lives between real servers get more time."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(STAGE_TIMEOUT_SECONDS))
