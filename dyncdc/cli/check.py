"""``dyncdc check``: one line per finding, exit 3 if anything would break."""

from __future__ import annotations

from dataclasses import asdict

import click
import orjson

from dyncdc.app.startup_retry import limited
from dyncdc.config import Config
from dyncdc.operations.check.checker import Checker
from dyncdc.operations.check.findings import Finding, breaks

from .exit_codes import CHECK_FAILED, DONE
from .options import config_option, debug_option, json_option, load, run_async


@click.command()
@config_option
@json_option
@debug_option
def check(config_file: str | None, as_json: bool, debug: bool) -> int:
    """Look at everything that run depends on; change nothing."""
    del debug
    findings = run_async(_check(load(config_file)))
    if as_json:
        click.echo(orjson.dumps({"findings": [asdict(finding) for finding in findings]}).decode())
    else:
        for finding in findings:
            click.echo(finding.line())
    return CHECK_FAILED if breaks(findings) else DONE


async def _check(config: Config) -> list[Finding]:
    with limited(config, "check") as startup_retry:
        checker = Checker(config, startup_retry)
        await checker.run()
    return checker.findings
