"""Matrix: what went wrong how often in how many histories, and how many of these ended different."""

from __future__ import annotations

from collections.abc import Sequence

from . import kinds
from .history import Outcome, merge_counts


def lines(outcomes: Sequence[Outcome], required: Sequence[str] = kinds.REQUIRED) -> list[str]:
    """The fault matrix, as a table in Markdown: the required kinds in their order, and what else there was."""
    total = merge_counts(outcomes)
    rows = [("fault", "times injected", "histories", "differences")]
    for kind in _present(outcomes, required):
        mine = [outcome for outcome in outcomes if outcome.counted.get(kind)]
        bad = sum(1 for outcome in mine if outcome.failure)
        rows.append((kind, f"{total[kind]:,}", str(len(mine)), str(bad)))
    bad = sum(1 for outcome in outcomes if outcome.failure)
    changes = sum(outcome.changes for outcome in outcomes)
    rows.append((f"all: {changes:,} changes", f"{sum(total.values()):,}", str(len(outcomes)), str(bad)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    text = [_line(row, widths) for row in rows]
    text.insert(1, "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|")
    return text


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = row
    cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
    return "| " + " | ".join(cells) + " |"


def _present(outcomes: Sequence[Outcome], required: Sequence[str]) -> list[str]:
    found = {kind for outcome in outcomes for kind in outcome.counted}
    return [*required, *sorted(found - set(required))]


def too_few(
    outcomes: Sequence[Outcome], required: Sequence[str] = kinds.REQUIRED, long_run: int = kinds.LONG_RUN
) -> list[str]:
    """Kinds that a long run has not injected often enough to say anything about them."""
    if len(outcomes) < long_run:
        return []
    total = merge_counts(outcomes)
    return [kind for kind in required if total[kind] < kinds.LEAST]
