"""One endpoint for all services: finds the operation of a request, applies faults, answers. Owns the tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from dyncdc.emulator.aws.dynamodb.endpoint import DynamoDB
from dyncdc.emulator.aws.dynamodb.export import Exports
from dyncdc.emulator.aws.dynamodb.item_reads import ItemReads
from dyncdc.emulator.aws.dynamodb.item_writes import ItemWrites
from dyncdc.emulator.aws.dynamodb.streaming import Streaming
from dyncdc.emulator.aws.dynamodb.tables import Tables
from dyncdc.emulator.aws.kinesis.api import Kinesis
from dyncdc.emulator.aws.kinesis.records import Records

from . import control
from .faults import Faults, Spec
from .moto_server import Moto, s3_operation
from .settings import Settings
from .wire import AwsError, Wire, json_answer, json_error, signed_for

KINESIS_TARGET = "Kinesis_20131202"
DYNAMODB_TARGET = "DynamoDB_20120810"
DYNAMODB_NAMESPACE = "com.amazonaws.dynamodb.v20120810#"
MAX_REQUEST_BYTES = 128 * 1024 * 1024


class Server:
    """The local AWS of one process."""

    def __init__(self, moto: Moto, tasks: asyncio.TaskGroup) -> None:
        self.settings = Settings()
        self.faults = Faults()
        tables = Tables()
        self._moto = moto
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self._kinesis = Kinesis(self.settings)
        self._records = Records(self._kinesis)
        self.streaming = Streaming(tables, self._kinesis, self._records, self.settings)
        self._writes = ItemWrites(tables, self.streaming)
        exports = Exports(tables, moto, self.settings, self._spawn)
        self._reads = ItemReads(tables, self.settings)
        self._dynamodb = DynamoDB(tables, self._writes, self._reads, self.streaming, exports, moto)

    def application(self) -> web.Application:
        """Build the web application."""
        application = web.Application(client_max_size=MAX_REQUEST_BYTES)
        control.add_routes(application, self.settings, self.faults, self.streaming, self.sweep)
        application.router.add_route("*", "/{path:.*}", self._handle)
        return application

    def start(self) -> None:
        """Start the background tasks."""
        self._spawn(self._sweep_for_ever(), "sweep:ttl")

    def cancel(self) -> None:
        """Cancel whatever runs in the background: nothing survives the process anyway."""
        for task in self._running:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._tasks.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def sweep(self) -> int:
        """Delete what has expired now; return how many items."""
        return self._writes.expire(time.time())

    async def _sweep_for_ever(self) -> None:
        """Delete expired items once in a while, at most a twentieth of the time."""
        while True:
            pause = self.settings.ttl_sweep_seconds
            started = time.monotonic()
            if pause:
                self.sweep()
            await asyncio.sleep(max(pause or 1.0, 20 * (time.monotonic() - started)))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        target, _, operation = request.headers.get("X-Amz-Target", "").rpartition(".")
        if not target:
            operation = _untargeted(request, body)
        fault = self.faults.next(operation, body if target else request.path.encode())
        if not fault:
            return await self._answer(target, operation, request, body)
        await asyncio.sleep(fault.get("sleep", 0))
        if fault.get("drop") or "error" in fault:
            if fault.get("apply"):
                await self._answer(target, operation, request, body)
            if fault.get("drop"):
                return _cut(request)
            return _error(target, AwsError(fault["error"], fault.get("message", "injected"), fault.get("status", 400)))
        if fault.get("empty") and operation == "GetRecords":
            return self._kinesis_answer(operation, request, body, empty=True)
        if fault.get("empty") and operation == "Scan":
            return await self._dynamodb_answer(operation, request, body, empty=True)
        answer = await self._answer(target, operation, request, body)
        await asyncio.sleep(fault.get("hold", 0))
        return answer if "cut" not in fault else await _partial(request, answer, fault)

    async def _answer(self, target: str, operation: str, request: web.Request, body: bytes) -> web.Response:
        if target == KINESIS_TARGET:
            return self._kinesis_answer(operation, request, body)
        if target == DYNAMODB_TARGET:
            return await self._dynamodb_answer(operation, request, body)
        if target:
            return _error(target, AwsError("UnknownOperationException", f"The local AWS does not serve {target}"))
        answer = await self._moto.forward(request.method, request.raw_path, dict(request.headers), body)
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)

    def _kinesis_answer(
        self, operation: str, request: web.Request, body: bytes, *, empty: bool = False
    ) -> web.Response:
        region, _ = signed_for(request.headers)
        try:
            document = _parse(body)
            if operation == "GetRecords":
                return json_answer(self._records.get_records(document, region, empty=empty), "1.1")
            call = self._records.operations.get(operation) or self._kinesis.operations.get(operation)
            if call is None:
                raise AwsError("UnknownOperationException", f"The local AWS does not serve {operation}")
            return json_answer(call(document, region), "1.1")
        except AwsError as error:
            return json_error(error, "", "1.1")
        except KeyError as error:
            return json_error(AwsError("ValidationException", f"Missing parameter {error}"), "", "1.1")

    async def _dynamodb_answer(
        self, operation: str, request: web.Request, body: bytes, *, empty: bool = False
    ) -> web.Response:
        region, _ = signed_for(request.headers)
        try:
            if empty:
                return json_answer(self._reads.scan_nothing(_parse(body), region), "1.0")
            return json_answer(await self._dynamodb.call(operation, _parse(body), region), "1.0")
        except AwsError as error:
            return json_error(error, DYNAMODB_NAMESPACE, "1.0")
        except KeyError as error:
            missing = AwsError("ValidationException", f"Missing parameter {error}")
            return json_error(missing, DYNAMODB_NAMESPACE, "1.0")


def _untargeted(request: web.Request, body: bytes) -> str:
    """Return the operation of a request without X-Amz-Target: S3, or a query service such as STS."""
    if signed_for(request.headers)[1] not in ("", "s3"):
        return parse_qs(body.decode(errors="replace")).get("Action", [""])[0]
    return s3_operation(request.method, request.path, request.query_string)


def _parse(body: bytes) -> Wire:
    try:
        document: Wire = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise AwsError("SerializationException", "The request is not JSON") from error
    return document


def _error(target: str, error: AwsError) -> web.Response:
    if not target:
        text = f"<?xml version='1.0'?><Error><Code>{error.code}</Code><Message>{error.message}</Message></Error>"
        return web.Response(text=text, status=error.status, content_type="application/xml")
    if target == DYNAMODB_TARGET:
        return json_error(error, DYNAMODB_NAMESPACE, "1.0")
    return json_error(error, "", "1.1")


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _partial(request: web.Request, answer: web.Response, fault: Spec) -> web.StreamResponse:
    """Send the beginning of an answer that announces all of it, then cut the connection."""
    body = answer.body if isinstance(answer.body, bytes) else b""
    partial = web.StreamResponse(status=answer.status, headers=answer.headers)
    partial.content_length = len(body)
    await partial.prepare(request)
    await partial.write(body[: fault["cut"]])
    await asyncio.sleep(0.02)  # let the bytes leave before the reset overtakes them
    if request.transport is not None:
        request.transport.abort()
    return partial
