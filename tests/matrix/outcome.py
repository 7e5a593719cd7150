"""Outcomes: what became of each scenario on each engine, and the table that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Result = Literal["EQUAL", "refused", "skipped", "FAILED"]


@dataclass
class Outcome:
    """``message``: why it was skipped or refused, or what failed; ``notes``: what else is to be said."""

    engine: str
    scenario: str
    result: Result
    seconds: float = 0.0
    changes: int = 0
    message: str = ""
    notes: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @property
    def cell(self) -> str:
        """As the table shows it."""
        return self.result if self.result == "skipped" else f"{self.result} {self.seconds:.0f} s"


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Markdown: a row for each scenario, a column for each engine, and then what has to be said in words."""
    engines = sorted({outcome.engine for outcome in outcomes})
    scenarios = list(dict.fromkeys(outcome.scenario for outcome in outcomes))
    cells = {(outcome.scenario, outcome.engine): outcome.cell for outcome in outcomes}
    lines = [_row(["scenario", *engines]), _row(["---"] * (len(engines) + 1))]
    lines += [_row([name, *(cells.get((name, engine), "") for engine in engines)]) for name in scenarios]
    said = [_words(outcome) for outcome in outcomes if outcome.message or outcome.notes]
    return [*lines, "", *said] if said else lines


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _words(outcome: Outcome) -> str:
    words = [f"{outcome.result}: {outcome.message}"] if outcome.message else []
    text = "; ".join([*words, *outcome.notes]).replace("\n", " ")
    return f"- {outcome.scenario}, {outcome.engine}: {text}"
