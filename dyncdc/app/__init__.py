"""The composition root: the only package that knows all the others. It builds, nests and ends; no more."""

from dyncdc.app.workers.supervisor import run_workers

from .daemon.daemon import run_daemon

__all__ = ["run_daemon", "run_workers"]
