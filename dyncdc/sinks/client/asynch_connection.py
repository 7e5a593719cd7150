"""asynch's protocol connection, made safe and lean for us. Everything that leans on asynch's insides is in this file.

What it changes, and why (asynch 0.4, each measured):

- A statement goes to the socket in pieces. As one text it is copied four times, eleven times with one emoji in it.
- No ``wait_for``, which asynch has around every step of a connect: it swallows a cancellation that comes just as the
  step is done (Python 3.11). The task then runs on without limit, and so does a task that awaits it; a time
  limit that is swallowed limits nothing.
- No PING before each query: 1.5 ms each, and a ``wait_for`` as well.
- It knows no client certificates.
- Only DATA is an answer's rows. asynch hands the rows of TOTALS and EXTREMES over as if they were more of them.
- What the server has answered is read also where it hung up before it had read all that was sent: the connection then
  counts as reset (24.8 on a database that is missing).
- Closing never waits. asynch waits until what was written has been sent, which a frozen server never lets happen.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import logging
import ssl
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from asynch.errors import ClickHouseException, NetworkError, ServerException
from asynch.proto.connection import Connection as AsynchConnection
from asynch.proto.protocol import ServerPacket
from asynch.proto.streams.buffered import BufferedWriter

from dyncdc.config.urls import host_text

from .tls import Certificates

PIECE_BYTES = 256 * 1024
"""What is handed to the socket at once, and held beside the statement while it is sent."""

FAILURES = (ClickHouseException, OSError, EOFError, RuntimeError, ValueError, IndexError, struct.error)
"""asynch also lets through what parsing a cut answer raises; uvloop raises RuntimeError on a closed socket."""

# It logs every failed connect as a warning, and statements, which hold values, at debug level.
logging.getLogger("asynch").setLevel(logging.ERROR)


class Statement(str):
    """A statement whose text ends in data. As a ``str`` it is the head alone: what asynch logs and looks at."""

    __slots__ = ("body",)
    body: Sequence[bytes]

    @classmethod
    def of(cls, head: str, body: Sequence[bytes]) -> Statement:
        """``body``: what follows the head on the wire, in order."""
        statement = cls(head)
        statement.body = body
        return statement

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield the statement's bytes, ``PIECE_BYTES`` at most at a time."""
        yield str.encode(self)
        for part in self.body:
            if len(part) <= PIECE_BYTES:
                yield part
            else:
                view = memoryview(part)
                yield from (view[start : start + PIECE_BYTES] for start in range(0, len(part), PIECE_BYTES))

    @property
    def nbytes(self) -> int:
        """Bytes on the wire."""
        return len(str.encode(self)) + sum(map(len, self.body))


class _PiecewiseWriter(BufferedWriter):
    async def write_str(self, data: str) -> None:
        if not isinstance(data, Statement):
            await super().write_str(data)
            return
        await self.write_varint(data.nbytes)
        for piece in data.pieces():
            await self.write_bytes(piece)  # sends, and waits for room in the socket, at every PIECE_BYTES


class Hosts:
    """Replicas to connect to: one for all connections, until it cannot be reached."""

    def __init__(self, hosts: Sequence[tuple[str, int]]) -> None:
        self._hosts = tuple(hosts)
        self.current = self._hosts[0]
        self.connects = 0
        """How often a connection was begun."""

    def __len__(self) -> int:
        return len(self._hosts)

    def failed(self, host: tuple[str, int]) -> None:
        """Turn to the next one, unless another connection already has."""
        if host == self.current:
            self.current = self._hosts[(self._hosts.index(host) + 1) % len(self._hosts)]


class ProtocolConnection(AsynchConnection):
    """One connection: one query at a time, from one task at a time. Reconnects by itself when it is down."""

    _writer: Any = None
    reader: Any
    secure_socket: bool

    def __init__(
        self,
        *,
        hosts: Hosts,
        certificates: Certificates,
        connect_seconds: float,
        ask_password: Callable[[], str],
        **options: Any,
    ) -> None:
        host, port = hosts.current
        super().__init__(
            host=host, port=port, connect_timeout=None, send_receive_timeout=None, **options
        )  # no wait_for
        self._hosts = hosts
        self._ask_password = ask_password
        self.available_client_settings = ()  # it keeps some settings to itself that are the server's
        self._certificates = certificates
        self._connect_seconds = connect_seconds
        self._last_answer: Exception | None = None
        """What the server said before it hung up."""

    def _get_ssl_context(self) -> ssl.SSLContext | None:
        return self._certificates.context() if self.secure_socket else None

    @property
    def writer(self) -> Any:
        """The buffered writer, None while not connected."""
        return self._writer

    @writer.setter
    def writer(self, writer: Any) -> None:
        # asynch sets it once per connect, before it builds the block writer on it
        if writer is not None:
            writer = _PiecewiseWriter(writer.writer, max_buffer_size=PIECE_BYTES, timeout=writer.timeout)
        self._writer = writer

    async def force_connect(self) -> None:
        """Be connected. A server that has closed the connection is noticed here; one that is silent, by the query."""
        await self.check_query_execution()
        if not self.connected or self._closed_by_server():
            await self.connect()

    async def connect(self) -> None:
        """Connect again, to the next host where one cannot be reached.

        Leaves nothing behind when it fails, exceeds ``connect_seconds`` for each host, or is cancelled.
        """
        tried = []
        for left in reversed(range(len(self._hosts))):
            host = self._hosts.current
            tried.append(host)
            try:
                await self._connect_to(host)
            except (OSError, EOFError, NetworkError):
                self._hosts.failed(host)
                if not left:
                    self.hosts = tried
                    raise
            else:
                return

    async def _connect_to(self, host: tuple[str, int]) -> None:
        self.hosts = [host]
        self.password = self._ask_password()
        self._hosts.connects += 1
        self._last_answer = None
        try:
            async with asyncio.timeout(self._connect_seconds):
                await super().connect()
        except TimeoutError as error:
            raise NetworkError("connecting took too long") from error

    @property
    def place(self) -> str:
        """For errors: the host that it is, or was, connected to; where none could be reached, all that were tried."""
        return ", ".join(map(host_text, self.hosts))

    def _closed_by_server(self) -> bool:
        stream = self.reader.reader
        return bool(stream.at_eof()) or stream.exception() is not None

    async def receive_packet(self) -> Any:
        """Return the next packet: one of rows, True for any other, False at the end. Raises what the server answers."""
        packet = await super().receive_packet()
        return packet if isinstance(packet, bool) or packet.type == ServerPacket.DATA else True

    async def run(self, sql: str, settings: dict[str, object]) -> list[tuple[Any, ...]]:
        """Run a statement and return all of its rows."""
        with self._answered():
            rows: list[tuple[Any, ...]] = await self.execute(sql, settings=settings)
        return rows

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Raise what the server said last, rather than that it then hung up."""
        try:
            yield
        except (OSError, EOFError):
            if self._last_answer is not None:
                raise self._last_answer from None
            raise

    async def disconnect(self) -> None:
        """Drop the connection at once, whatever is under way."""
        if self.connected and self._closed_by_server():
            self._last_answer = await self._read_answer()
        self.drop()

    async def _read_answer(self) -> Exception | None:
        """The exception among what has arrived and was not read. Waits for nothing: no more can come."""
        stream = self.reader.reader
        stream._exception = None  # it would be raised before what arrived ahead of it
        stream.feed_eof()
        try:
            while await self.receive_packet():
                pass
        except ServerException as answer:
            return answer
        except FAILURES:  # cut short
            return None
        return None

    def drop(self) -> None:
        """As ``disconnect``, without awaiting."""
        writer = self._writer
        self.reset_state()
        self.connected = False
        if writer is not None and writer.writer is not None:
            writer.writer.transport.abort()
