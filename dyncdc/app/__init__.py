"""The composition root: the only package that knows all the others. It builds, nests and ends; no more."""

from .daemon import run_daemon
from .workers import run_workers

__all__ = ["run_daemon", "run_workers"]
