"""The Kinesis of the local AWS behind real HTTP in the test's own loop, with faults that a test scripts per call."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from aiohttp import web

from dyncdc.emulator.aws.kinesis.api import Kinesis
from dyncdc.emulator.aws.kinesis.records import Records
from dyncdc.emulator.aws.server.settings import Settings
from dyncdc.emulator.aws.server.wire import AwsError, json_answer, json_error, signed_for

Fault = AwsError | bytes | float | str | None
"""What happens to a call: an error, a body instead of the answer, a delay in seconds, "empty", "drop", or nothing."""


class KinesisServer:
    """``faults[operation]`` is consumed call by call; ``requests`` keeps what was asked."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.kinesis = Kinesis(self.settings)
        self.records = Records(self.kinesis)
        self.faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.calls: Counter[str] = Counter()
        self.requests: defaultdict[str, list[dict[str, object]]] = defaultdict(list)
        self.refused_keys: set[str] = set()
        """Access key ids that are not valid any more."""
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[KinesisServer]:
        """Serve on a free port of 127.0.0.1 until left."""
        application = web.Application(client_max_size=32 * 2**20)
        application.router.add_post("/", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        document = orjson.loads(await request.read())
        region, _ = signed_for(request.headers)
        self.calls[operation] += 1
        self.requests[operation].append(document)
        fault = self.faults[operation].popleft() if self.faults[operation] else None
        if isinstance(fault, float):
            await asyncio.sleep(fault)
        elif isinstance(fault, bytes):
            return json_answer(fault, "1.1")
        elif fault == "drop" and request.transport is not None:
            request.transport.abort()
        try:
            if isinstance(fault, AwsError):
                raise fault
            if any(f"Credential={key}/" in request.headers["Authorization"] for key in self.refused_keys):
                raise AwsError("UnrecognizedClientException", "The security token included in the request is invalid.")
            if operation == "GetRecords":
                return json_answer(self.records.get_records(document, region, empty=fault == "empty"), "1.1")
            operations = {**self.kinesis.operations, **self.records.operations}
            return json_answer(operations[operation](document, region), "1.1")
        except AwsError as error:
            return json_error(error, "", "1.1")
