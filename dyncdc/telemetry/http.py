"""The HTTP server: metrics for machines, health for both. From memory only; no values, keys or credentials."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from dyncdc.errors import ConfigError

from .http_guard import CachedAnswer, Connection, Connections, guard, hosts_of
from .metrics import Metrics
from .status import DaemonStatus, StatusBuilder, add_page
from .task_health import TaskHealth

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Readiness:
    """The steps that must be done before this process is ready, each ticked off once."""

    missing: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, steps: Iterable[str]) -> Readiness:
        """``steps``: what is still missing, in words, as "checkpoints loaded"."""
        return cls(list(steps))

    def wait_for(self, step: str) -> None:
        """Add a step that is missing from now on."""
        if step not in self.missing:
            self.missing.append(step)

    def done(self, step: str) -> None:
        """Tick off a step. Repeating it is harmless."""
        if step in self.missing:
            self.missing.remove(step)

    @property
    def ready(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing


class HttpPages:
    """The answers. All handlers are plain reads of what the rest of the process keeps up to date."""

    def __init__(self, metrics: Metrics, health: TaskHealth, readiness: Readiness, overview: StatusBuilder) -> None:
        self._metrics = metrics
        self._overview = overview
        self._health = health
        self._readiness = readiness
        self._kept = CachedAnswer(self._render)

    def application(self) -> web.Application:
        """Return the routes."""
        application = web.Application()
        application.add_routes(
            [
                web.get("/metrics", self._show_metrics),
                web.get("/livez", self._livez),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
            ]
        )
        add_page(application, self._document)
        return application

    async def _document(self) -> DaemonStatus:
        return self._overview.document()

    async def _render(self) -> bytes:
        return self._metrics.render()

    async def _show_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=await self._kept.get(), headers={"Content-Type": METRICS_TYPE})

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def _healthz(self, request: web.Request) -> web.Response:
        stuck, planned = self._health.stuck(), self._health.planned()
        status = 503 if stuck else 200
        if "application/json" in request.headers.get("Accept", ""):
            tasks = [{"task": task.name, "seconds": round(task.seconds, 1), "reason": task.reason} for task in stuck]
            waits = [{"task": wait.name, "seconds": wait.seconds, "reason": wait.reason} for wait in planned]
            state = "stuck" if stuck else "healthy"
            return web.json_response({"status": state, "stuck": tasks, "planned": waits}, status=status)
        lines = [*map(str, stuck)] or ["healthy", *map(str, planned)]
        return web.Response(text="".join(f"{line}\n" for line in lines), status=status)

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._readiness.ready:
            return web.Response(text="ready\n")
        return web.Response(text="".join(f"not yet: {step}\n" for step in self._readiness.missing), status=503)


@asynccontextmanager
async def serve_http(
    where: tuple[str, int] | str, pages: web.Application, allowed_hosts: Collection[str] = ()
) -> AsyncIterator[int]:
    """Serve while the block runs. ``where``: host and port, or the path of a socket.

    Yields the port, which is another one when 0 was asked for, and 0 for a socket. ``allowed_hosts``: names by which
    clients may ask, beside what ``guard`` knows itself. Raises ConfigError when the address cannot be bound.
    """
    guard(pages, None if isinstance(where, str) else hosts_of(where[0], allowed_hosts))
    runner = web.AppRunner(pages, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    server, connections, loop = runner.server, Connections(), asyncio.get_running_loop()
    if server is None:
        raise AssertionError("it was set up")

    def connect() -> Connection:
        return Connection(server, connections, loop)

    try:
        if isinstance(where, str):
            listening = await loop.create_unix_server(connect, where)
            port = 0
        else:
            try:
                listening = await loop.create_server(connect, *where)
            except OSError as error:
                raise _cannot_bind(*where, error) from error
            port = int(listening.sockets[0].getsockname()[1])
        try:
            yield port
        finally:
            listening.close()
    finally:
        await runner.cleanup()


def _cannot_bind(host: str, port: int, error: OSError) -> ConfigError:
    where = f"binding http.listen {host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return ConfigError(f"{where}: the port is in use", hint="stop what uses it, or set another http.listen")
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(f"{where}: not an address of this machine", hint='set http.listen, as "127.0.0.1:9108"')
    if error.errno == errno.EACCES:
        return ConfigError(f"{where}: not permitted", hint="set http.listen to a port of 1024 or more")
    return ConfigError(f"{where}: {error.strerror or type(error).__name__}", hint="set another http.listen")
