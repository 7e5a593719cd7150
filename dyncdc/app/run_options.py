"""RunOptions: what the command line says about a run, beside the configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dyncdc.config import Config
from dyncdc.pipeline.members.assignment import Assignment


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How one process runs, or how the workers of one supervisor do."""

    once: bool = False
    """End when all is done."""
    assignment: Assignment = field(default_factory=Assignment)
    """Which member of the pipeline it is."""
    read: Callable[[], Config] | None = None
    """Reads the configuration again at SIGHUP; without it, the signal is left alone."""
    take_over: bool = False
    """Take the place of a process that is at work as this member, instead of waiting for its end."""
    worker: Path | None = None
    """The socket for its pages when a supervisor started it."""
    since: float = float("inf")
    """When the supervisor's run with ``once`` began, by ClickHouse's clock."""
