"""A TCP proxy that breaks connections on purpose: what a network does to a download."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

READ_BYTES = 16 * 1024


class TcpProxy:
    """Forwards to one server.

    ``cuts`` holds, for each next connection, the bytes it may answer before it is reset. An answer longer than
    ``stall_after_bytes`` waits there for ``resumed``.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream)
        self.cuts: list[int] = []
        self.stall_after_bytes: int | None = None
        self.resumed = asyncio.Event()
        self.url = ""
        self.connections = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[TcpProxy]:
        """Serve on a free port of 127.0.0.1 until left."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        cut = self.cuts.pop(0) if self.cuts else None
        up_reader, up_writer = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, up_writer))
                group.create_task(self._answer(up_reader, writer, cut))
        except* (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            up_writer.close()
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: int | None) -> None:
        sent = 0
        while data := await reader.read(READ_BYTES):
            if cut is not None and sent + len(data) > cut:
                writer.write(data[: cut - sent])
                await writer.drain()
                writer.transport.abort()
                raise ConnectionResetError
            if self.stall_after_bytes is not None and sent >= self.stall_after_bytes:
                await self.resumed.wait()
            writer.write(data)
            await writer.drain()
            sent += len(data)
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(READ_BYTES):
        writer.write(data)
        await writer.drain()
    writer.close()
