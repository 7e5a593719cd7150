"""What all tests share: end-to-end tests get more time."""

from __future__ import annotations

import pytest

E2E_TIMEOUT_SECONDS = 120


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests marked e2e their own time-out, unless they name one."""
    for item in items:
        if item.get_closest_marker("e2e") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(E2E_TIMEOUT_SECONDS))
