"""The demo's last line, from what verification found in each table."""

from __future__ import annotations

from collections.abc import Sequence

from dyncdc.operations.verify.result import Verification


def verdict_line(results: Sequence[Verification], changes: int) -> str:
    """``EQUAL items=N changes=M``, or ``DIFFERENT items=N changes=M differing=K``."""
    items = sum(result.items for result in results)
    differing = sum(result.differing for result in results)
    if not differing:
        return f"EQUAL items={items} changes={changes}"
    return f"DIFFERENT items={items} changes={changes} differing={differing}"
