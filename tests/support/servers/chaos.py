"""A TCP proxy that misbehaves on demand: between a client and the local AWS, or ClickHouse. Loopback only."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

CHUNK_BYTES = 65536
_LINGER_ZERO = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class ChaosProxy:
    """Forwards to ``host:port``; the switches act on open connections as well, from the next chunk on."""

    host: str
    port: int
    latency_seconds: float = 0.0
    """Before each chunk of an answer."""
    bytes_per_second: float = 0.0
    """Of answers; 0 is without limit."""
    cut_after_bytes: int | None = None
    """A connection is reset once it has delivered that much of its answers."""
    blackhole: bool = False
    """Nothing passes, in both directions, and no one is told. What was held passes once it is over."""
    hold_containing: bytes = b""
    """A chunk of a client that has this stays here, and so the answer to it. What was held passes once it is over."""
    refuse: bool = False
    """New connections are reset at once."""
    listening_port: int = 0
    connections: int = 0
    """Accepted so far."""
    dead: set[asyncio.StreamWriter] = field(default_factory=set)
    """Clients of which nothing passes any more."""
    _clients: set[asyncio.StreamWriter] = field(default_factory=set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ChaosProxy]:
        """Listen on a free port (``listening_port``, ``url``) until left; then reset what is still open."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.listening_port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.reset_connections()
            await asyncio.sleep(0)

    @property
    def url(self) -> str:
        """Return the proxy's address as a HTTP endpoint."""
        return f"http://127.0.0.1:{self.listening_port}"

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    def heal(self) -> None:
        """Turn all switches off."""
        self.latency_seconds = self.bytes_per_second = 0.0
        self.cut_after_bytes, self.blackhole, self.refuse, self.hold_containing = None, False, False, b""
        self.dead.clear()

    def freeze_open(self) -> None:
        """Let nothing pass any more on the connections that are open now; new ones work. No one is told."""
        self.dead.update(self._clients)

    def reset_connections(self) -> None:
        """Send a reset to every client."""
        for client in list(self._clients):
            _reset(client)

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refuse:
            _reset(client)
            return
        self._clients.add(client)
        try:
            upstream_reader, upstream = await asyncio.open_connection(self.host, self.port)
            try:
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump_requests(reader, upstream, client), name="pump:up")
                    pumps.create_task(self._pump_answers(upstream_reader, client), name="pump:down")
            finally:
                upstream.transport.abort()
        except* OSError:
            _reset(client)
        finally:
            self._clients.discard(client)
            self.dead.discard(client)
            client.transport.abort()

    async def _pump_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await self._hold(client)
            while self.hold_containing and self.hold_containing in chunk:  # noqa: ASYNC110 - as in _hold
                await asyncio.sleep(0.02)
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError  # ends the other direction as well

    async def _pump_answers(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        sent = 0
        while chunk := await reader.read(CHUNK_BYTES):
            await self._hold(client)
            await asyncio.sleep(self.latency_seconds)
            if self.bytes_per_second:
                await asyncio.sleep(len(chunk) / self.bytes_per_second)
            if self.cut_after_bytes is not None and sent + len(chunk) > self.cut_after_bytes:
                client.write(chunk[: max(0, self.cut_after_bytes - sent)])
                await asyncio.sleep(0.01)  # a reset overtakes what has not left yet
                raise ConnectionResetError
            client.write(chunk)
            sent += len(chunk)
            await client.drain()
        client.write_eof()

    async def _hold(self, client: asyncio.StreamWriter) -> None:
        while self.blackhole or client in self.dead:  # noqa: ASYNC110  # a switch that any test may turn at any time
            await asyncio.sleep(0.02)


def _reset(client: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    connection = client.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    client.transport.abort()
