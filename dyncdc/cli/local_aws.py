"""``dyncdc local-aws``: the local AWS alone, for a user's own tests."""

from __future__ import annotations

import asyncio
import signal

import click
import orjson

from dyncdc.emulator.aws import LocalAws

from .options import debug_option, json_option, run_async

IDENTITY = "AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test"
"""Clients want all of these, some by one name of the region and some by the other; any are taken."""


@click.command("local-aws")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Port on 127.0.0.1; 0 picks a free one.")
@json_option
@debug_option
def local_aws(port: int, as_json: bool, debug: bool) -> None:
    """Serve a local AWS for tests, until interrupted.

    Kinesis, DynamoDB with streaming and exports, and S3, on 127.0.0.1.
    """
    del debug
    run_async(_serve(port, as_json))


async def _serve(port: int, as_json: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with LocalAws(port=port) as aws:
        if as_json:
            click.echo(orjson.dumps({"endpoint_url": aws.endpoint_url}).decode())
        else:
            click.echo(f"{aws.endpoint_url}")
            click.echo(f"use it: export AWS_ENDPOINT_URL={aws.endpoint_url} {IDENTITY}", err=True)
        await stop.wait()
