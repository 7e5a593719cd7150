"""Starts the local AWS as a child process and talks to its control API. Must not import the server."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from typing import IO, Any, Self

import aiohttp
import orjson

from dyncdc.errors import FatalError

START_SECONDS = 20.0
STOP_SECONDS = 5.0
_READY = "local aws ready on "


class LocalAwsError(FatalError):
    """The child did not start, ended by itself, or refused a control request."""


class LocalAws:
    """A local AWS of one's own. The child ends with ``stop``, and also when this process dies in any way.

    ``settings`` are applied before ``start`` returns; see ``dyncdc.emulator.aws.server.settings.Settings``.
    """

    def __init__(self, port: int = 0, settings: dict[str, Any] | None = None) -> None:
        self._port = port
        self._settings = settings or {}
        self._process: asyncio.subprocess.Process | None = None
        self._said: IO[bytes] | None = None
        self._endpoint = ""

    @property
    def endpoint_url(self) -> str:
        """Return the endpoint for every service."""
        return self._endpoint

    @property
    def pid(self) -> int:
        """Return the child's process id."""
        if self._process is None:
            raise LocalAwsError("reading the process id of the local AWS: it is not running")
        return self._process.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the child and wait until it answers.

        Raises:
            LocalAwsError: it ended instead, or took longer than 20 s.
        """
        arguments = ("-m", "dyncdc.emulator.aws", "--port", str(self._port), "--until-stdin-closes")
        pipe = asyncio.subprocess.PIPE
        self._said = tempfile.TemporaryFile()  # not a pipe: one that no one reads fills up and stops the child
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdin=pipe, stdout=pipe, stderr=self._said, start_new_session=True
        )  # a session of its own: Ctrl-C is for the parent, which still drains against this child
        try:
            async with asyncio.timeout(START_SECONDS):
                self._endpoint = await self._await_ready(self._process)
            if self._settings:
                await self.set(**self._settings)
        except (LocalAwsError, TimeoutError) as error:
            await self.stop()
            raise LocalAwsError(str(error) or f"starting the local AWS: no answer in {START_SECONDS:.0f} s") from None

    async def stop(self) -> None:
        """Stop the child: SIGTERM, and SIGKILL if it takes longer than 5 s. Stopping twice does nothing."""
        process, self._process = self._process, None
        if self._said is not None:
            self._said.close()
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()

    async def set(self, **settings: Any) -> None:
        """Change settings while it runs."""
        await self._control("POST", "settings", settings)

    async def inject(
        self,
        operation: str,
        faults: Sequence[Any],
        *,
        contains: str = "",
        probability: float | None = None,
        seed: int = 0,
    ) -> None:
        """Script faults for the next calls of an operation, or random ones with ``probability``; see ``faults``."""
        script: dict[str, Any] = {"operation": operation, "faults": list(faults), "contains": contains}
        if probability is not None:
            script |= {"probability": probability, "seed": seed}
        await self._control("POST", "faults", script)

    async def clear_faults(self) -> None:
        """Drop all scripted and random faults."""
        await self._control("DELETE", "faults")

    async def calls(self) -> dict[str, int]:
        """Return how often each operation was called."""
        return await self._control("GET", "calls")

    async def sweep(self) -> int:
        """Delete expired items now; return how many."""
        return int((await self._control("POST", "sweep"))["expired"])

    async def _control(self, method: str, path: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        body = None if document is None else orjson.dumps(document)
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"{self._endpoint}/_dyncdc/{path}", data=body) as answer,
        ):
            content: dict[str, Any] = orjson.loads(await answer.read())
            if answer.status != 200:
                raise LocalAwsError(content.get("error", f"control request refused with {answer.status}"))
            return content

    async def _await_ready(self, process: asyncio.subprocess.Process) -> str:
        if process.stdout is None or self._said is None:
            raise LocalAwsError("no pipes to the child")
        line = (await process.stdout.readline()).decode()
        if not line.startswith(_READY):
            await process.wait()
            self._said.seek(0)
            said = self._said.read().decode().strip().rpartition("\n")[2]
            raise LocalAwsError(said or "starting the local AWS: it ended without a word")
        return line.removeprefix(_READY).strip()
