"""The composition root: the only package that knows all the others. It builds, nests and ends; it decides nothing else."""

from .daemon import run_daemon

__all__ = ["run_daemon"]
