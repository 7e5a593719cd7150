"""``dyncdc run``: the daemon."""

from __future__ import annotations

import faulthandler
from dataclasses import replace
from pathlib import Path

import click
import structlog

from dyncdc.app import run_daemon, run_workers
from dyncdc.app.run_options import RunOptions
from dyncdc.app.workers.environment import be_worker
from dyncdc.config import Config, load_config
from dyncdc.pipeline.members.assignment import Assignment
from dyncdc.telemetry.logging import configure_logging

from .options import config_option, debug_option, json_option, load, run_async


@click.command()
@click.option("--once", is_flag=True, help="Stop when snapshots are complete and every shard was read to its tip.")
@click.option(
    "--member",
    metavar="I/N",
    envvar="DYNCDC_MEMBER",
    help="Be number I (from 0) of N processes that share the pipeline; also DYNCDC_MEMBER.",
)
@click.option("--take-over", is_flag=True, help="Do not wait for a process with this pipeline name: take its place.")
@click.option("--worker", metavar="SOCKET", hidden=True, help="Be a worker: only for the supervisor of limits.workers.")
@config_option
@json_option
@debug_option
def run(
    config_file: str | None,
    once: bool,
    member: str | None,
    take_over: bool,
    worker: str | None,
    as_json: bool,
    debug: bool,
) -> int:
    """Replicate until told to stop (SIGTERM drains)."""
    faulthandler.enable()  # systemd's watchdog ends who hangs by SIGABRT: let it say where
    assignment = Assignment.parse(member) if member else Assignment()
    since = be_worker() if worker is not None else float("inf")
    config = load(config_file)

    def read() -> Config:
        found = load_config(config_file)
        return found.model_copy(update={"log": config.log}) if debug else found

    configure_logging("debug" if debug else config.log.level, "json" if as_json else config.log.format)
    if assignment.shared:
        structlog.contextvars.bind_contextvars(member=str(assignment))
    options = RunOptions(once, assignment, read, take_over)
    if worker is not None:
        return run_async(run_daemon(config, replace(options, worker=Path(worker), since=since)))
    if config.limits.workers > 1:
        arguments = [
            *(("--config", config_file) if config_file else ()),
            *(("--once",) if once else ()),
            *(("--json",) if as_json else ()),
            *(("--debug",) if debug else ()),
        ]
        return run_async(run_workers(config, arguments, options))
    return run_async(run_daemon(config, options))
