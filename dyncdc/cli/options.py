"""Options that every command shares, and the bridge from click's synchronous world to the event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click
import uvloop

from dyncdc.config import Config, load_config
from dyncdc.telemetry.logging import configure_logging

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])


def config_option(function: Function) -> Function:
    """``-c/--config FILE``, default ``./config.toml``; ``DYNCDC_CONFIG`` names it too."""
    return click.option("-c", "--config", "config_file", metavar="FILE", help="Configuration, default ./config.toml.")(
        function
    )


def json_option(function: Function) -> Function:
    """``--json``: one JSON document on stdout instead of text."""
    return click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")(function)


def debug_option(function: Function) -> Function:
    """``--debug``: tracebacks and debug logs."""
    return click.option("--debug", is_flag=True, help="Show tracebacks.")(function)


def load(config_file: str | None) -> Config:
    """Read the configuration and set logging up by it. Raises ConfigError."""
    config = load_config(config_file)
    configure_logging(config.log.level, config.log.format)
    return config


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` on uvloop."""
    return uvloop.run(main)
