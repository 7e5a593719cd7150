"""The command line: parse, call one operation, print, exit. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dyncdc import __version__
from dyncdc.app.process.signals import SIGNAL_BASE
from dyncdc.pipeline.runtime import root_cause

from .check import check
from .config_schema import config_schema
from .ddl import ddl
from .dead_letters import dead_letters
from .demo import demo
from .exit_codes import DONE, FATAL, USAGE, complain, exit_code
from .init import init
from .local_aws import local_aws
from .promote import promote
from .run import run
from .snapshot import snapshot
from .status import status
from .verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dyncdc")
def cli() -> None:
    """Keeps ClickHouse tables equal to DynamoDB tables: first by a snapshot, then by every change."""


for command in (demo, local_aws, init, check, config_schema, ddl, run, status, snapshot, promote, verify, dead_letters):
    cli.add_command(command)


def run_cli(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Every error becomes one line on stderr."""
    debug = "--debug" in arguments
    try:
        result = cli.main(args=list(arguments), prog_name="dyncdc", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.exceptions.NoArgsIsHelpError as usage:
        click.echo(usage.format_message(), err=True)
        return USAGE
    except click.ClickException as usage:
        click.echo(f"dyncdc: {' '.join(usage.format_message().split())}; see `dyncdc --help`", err=True)
        return USAGE
    except (KeyboardInterrupt, click.exceptions.Abort):
        return SIGNAL_BASE + 2
    except Exception as error:  # noqa: BLE001 - the last stop: whatever it is becomes one line and an exit code
        cause = root_cause(error)
        complain(cause, debug=debug)
        return exit_code(cause, worker="--worker" in arguments) if isinstance(cause, Exception) else FATAL
    return result if isinstance(result, int) else DONE
