"""Results: what a run found, as JSON that two runs can be compared by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Result:
    """One figure of one contender. What does not apply is None. ``ratio`` says in the page what it is of."""

    name: str
    contender: str
    us_cpu_per_record: float | None = None
    records_per_second_per_core: float | None = None
    rss_mb: float | None = None
    ratio: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


def write(file: Path, results: Sequence[Result]) -> None:
    """Write ``build/bench.json``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n")


def read(file: Path) -> list[Result]:
    """Read what ``write`` wrote."""
    return [Result(**one) for one in json.loads(file.read_text())]
