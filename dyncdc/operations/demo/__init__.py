"""``dyncdc demo``: the whole product at work without AWS, Docker or configuration, ending in a verdict."""

from .runner import DemoOptions, DemoOutcome, run_demo

__all__ = ["DemoOptions", "DemoOutcome", "run_demo"]
