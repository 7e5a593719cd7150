"""The process of the local AWS: binds, says where, serves until it is told to stop or its parent is gone."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click
import uvloop
from aiohttp import web

from .moto_server import Moto, MotoMissingError
from .server import Server

HOST = "127.0.0.1"
READY = "local aws ready on "
"""What stands before the endpoint in the one line that the process prints."""


class StartError(Exception):
    """The local AWS cannot start; the message is for the terminal."""


@click.command()
@click.option("--port", type=int, default=4566, show_default=True, help="0 takes a free one.")
@click.option(
    "--until-stdin-closes", is_flag=True, help="End when standard input does: so a child dies with its parent."
)
def main(port: int, until_stdin_closes: bool) -> None:
    """Serve Kinesis, DynamoDB and S3 on 127.0.0.1 until SIGTERM or SIGINT."""
    try:
        uvloop.run(serve(port, until_stdin_closes=until_stdin_closes))
    except StartError as error:
        click.echo(str(error), err=True)
        sys.exit(1)


async def serve(port: int, *, until_stdin_closes: bool = False) -> None:
    """Serve until stopped; prints the endpoint once requests are answered.

    Raises:
        StartError: the port is taken, or moto is not installed.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_stdin_closes:
        await loop.connect_read_pipe(lambda: _Watch(stop), sys.stdin)
    async with _running(port) as endpoint:
        gc.freeze()
        click.echo(READY + endpoint)
        sys.stdout.flush()
        await stop.wait()


@asynccontextmanager
async def _running(port: int) -> AsyncIterator[str]:
    try:
        moto = await Moto.start()
    except MotoMissingError as error:
        raise StartError(f"starting the local AWS: {error}; install it with: pip install 'dyncdc[local]'") from error
    try:
        async with asyncio.TaskGroup() as tasks:
            server = Server(moto, tasks)
            runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.5)
            await runner.setup()
            site = web.TCPSite(runner, HOST, port, backlog=1024)
            try:
                await site.start()
            except OSError as error:
                await runner.cleanup()
                why = f"{os.strerror(error.errno or 0).lower()}; choose another --port, or 0 for a free one"
                raise StartError(f"starting the local AWS on {HOST}:{port}: {why}") from None
            server.start()
            try:
                yield f"http://{HOST}:{runner.addresses[0][1]}"
            finally:
                server.cancel()
                await runner.cleanup()
    except* StartError as group:
        raise group.exceptions[0] from None
    finally:
        await moto.close()


class _Watch(asyncio.Protocol):
    """Sets an event when the other end of a pipe is closed."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop.set()
