"""Bounds what HTTP clients take of the process. A client that asks too much waits; replication does not."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from ipaddress import ip_address
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

_log = structlog.get_logger()

MOST_CONNECTIONS = 128
FILES_SHARE = 4
"""A quarter of the files that the process may open at most: all others are for ClickHouse, AWS and logs."""

HEAD_SECONDS = 10.0
"""How long a new connection may take to ask something, with all of its headers."""

IDLE_SECONDS = 75.0
"""How long it may rest, or take an answer. Longer than what lies between two scrapes."""

ANSWERS_PER_SECOND = 50.0
BURST_ANSWERS = 50
"""An answer costs about half a millisecond: so clients take some hundredths of a core at most."""

PROBES = frozenset(("/livez", "/healthz", "/readyz"))
"""Pages with turns of their own: who waits for them ends the process when they are late."""

NOT_UNDERSTOOD = "this is no request that is understood here\n"

FAULTS_OF_CLIENTS = (HttpProcessingError, web.RequestPayloadError)

KEPT_FACTOR = 10.0
KEPT_SECONDS_AT_MOST = 1.0
"""A page that is dear to make stands for ten times as long as that took."""


class Connections:
    """The open connections of one server, so many at most; a new one takes the place of one that waits."""

    def __init__(self) -> None:
        self._open: dict[Connection, None] = {}
        """The oldest first."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = max(1, min(MOST_CONNECTIONS, files // FILES_SHARE))

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, one: Connection) -> None:
        """Count one in. If there are too many, the client with the most loses the one that has waited longest."""
        self._open[one] = None
        if len(self._open) <= self._most:
            return
        clients = Counter(other.client for other in self._open)
        ((client, _),) = clients.most_common(1)
        mine = [other for other in self._open if other.client == client and other is not one]
        min(mine or [one], key=lambda other: (other.answering, other.since)).end()

    def leave(self, one: Connection) -> None:
        """Count one out."""
        self._open.pop(one, None)


class Connection(RequestHandler):
    """One connection: aiohttp's, which ends when it takes too long over what it does."""

    def __init__(self, server: web.Server, connections: Connections, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop=loop, access_log=None, keepalive_timeout=IDLE_SECONDS)  # type: ignore[arg-type]
        self._connections = connections
        self._alarm = loop.call_later(HEAD_SECONDS, self.end)
        self._timers = loop
        self.client = ""
        self.since = 0.0
        self.answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        peer: Any = transport.get_extra_info("peername")
        self.client = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        self.since = self._timers.time()
        self._connections.enter(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See ``asyncio.Protocol``."""
        self._alarm.cancel()
        self._connections.leave(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request without a word of it; see aiohttp."""
        if isinstance(exc, FAULTS_OF_CLIENTS):
            message = NOT_UNDERSTOOD
        return super().handle_error(request, status, exc, message)

    def log_exception(self, *args: Any, **named: Any) -> None:
        """Say on one line what clients do wrong; aiohttp's traceback, which quotes requests, is for pages that fail."""
        error = named.get("exc_info")
        if not isinstance(error, FAULTS_OF_CLIENTS):
            super().log_exception(*args, **named)
            return
        hint = "the pages take plain HTTP/1.1; something asks them in another way"
        _log.warning("request not understood", reason=type(error).__name__, hint=hint)

    def moved(self, *, answering: bool) -> None:
        """A request has come with all its headers, or its answer is made."""
        self.since = self._timers.time()
        self.answering = answering
        self._alarm.cancel()
        self._alarm = self._timers.call_later(IDLE_SECONDS, self.end)

    def end(self) -> None:
        """Drop the connection at once."""
        self._alarm.cancel()
        self._connections.leave(self)
        if self.transport is not None:
            self.transport.abort()


class Turns:
    """Spreads answers over time: so many a second, after a burst."""

    def __init__(self) -> None:
        self._last = float("-inf")

    async def take(self) -> None:
        """Wait until it is this request's turn."""
        now = asyncio.get_running_loop().time()
        self._last = max(self._last, now - BURST_ANSWERS / ANSWERS_PER_SECOND) + 1 / ANSWERS_PER_SECOND
        if self._last > now:
            await asyncio.sleep(self._last - now)


class CachedAnswer:
    """A page that is made once for all who ask for it at the same time, and a little longer."""

    def __init__(self, make: Callable[[], Awaitable[bytes]]) -> None:
        self._make = make
        self._one_at_a_time = asyncio.Lock()
        self._body = b""
        self._until = float("-inf")

    async def get(self) -> bytes:
        """Return the page. Raises what making it raises."""
        async with self._one_at_a_time:
            begun = time.monotonic()  # the loop's clock stands still while a page is made
            if begun >= self._until:
                self._body = await self._make()
                now = time.monotonic()
                self._until = now + min(KEPT_SECONDS_AT_MOST, KEPT_FACTOR * (now - begun))
            return self._body


def guard(application: web.Application, hosts: Collection[str] | None) -> None:
    """Let requests take turns, and answer only those for ``hosts``; None: for any."""
    probes, others = Turns(), Turns()

    @web.middleware
    async def guarded(request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
        connection = request.protocol
        if isinstance(connection, Connection):
            connection.moved(answering=True)
        try:
            await (probes if request.path in PROBES else others).take()
            if hosts is not None and not is_for(request.headers.get("Host", ""), hosts):
                return web.Response(text="not a name of this server; see http.allowed_hosts\n", status=421)
            answer: web.StreamResponse = await handler(request)
            return answer
        finally:
            if isinstance(connection, Connection):
                connection.moved(answering=False)

    application.middlewares.append(guarded)


def hosts_of(listen: str, configured: Collection[str]) -> Collection[str] | None:
    """Names by which a server at ``listen`` may be asked. None: any, as the network decides who reaches it.

    On loopback only a browser of this machine does; a web page could send that there under a name of its own.
    """
    if configured:
        return {listen.lower(), *(name.lower() for name in configured)}
    return {listen.lower()} if is_loopback(listen) else None


def is_for(host: str, hosts: Collection[str]) -> bool:
    """Whether a Host header is one of ``hosts``, or none that a foreign page could have: an address, "localhost"."""
    name = host.lower()
    name = name.partition("]")[0].removeprefix("[") if name.startswith("[") else name.partition(":")[0]
    name = name.removesuffix(".")
    return not name or name in hosts or name == "localhost" or name.endswith(".localhost") or _is_address(name)


def is_loopback(host: str) -> bool:
    """Whether this names the machine itself."""
    return host.lower() == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
