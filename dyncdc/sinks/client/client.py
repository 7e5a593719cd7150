"""ClickHouse: statements over the native protocol, each bounded in time, over a few connections. Knows no tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from typing import Any

from dyncdc.config import ClickHouseUrl
from dyncdc.errors import DyncdcError, RetryableError

from .asynch_connection import FAILURES, Hosts, ProtocolConnection, Statement
from .error_codes import NOT_ENOUGH_SPACE, SettingRefusedError, translate
from .query_settings import LIMITS, SETTING_NOT_TAKEN, WAITING_FOR_CLUSTER, Settings, with_required_settings
from .quorum import MISSED, Quorum
from .tls import NO_CERTIFICATES, Certificates

Row = tuple[Any, ...]

CONNECT_TIMEOUT_SECONDS = 10.0
CLIENT_NAME = "dyncdc"


class ClickHouse:
    """A server, reached over at most ``connections`` connections. Safe to use from any number of tasks of one loop.

    Every call raises RetryableError when the server cannot be reached or does not answer within ``timeout_seconds``
    (the statement may then have been executed), LoginRefused (an AccessDeniedError) when it refuses us, and otherwise
    what ``error_codes.ACTIONS`` says. Cancelling a call drops only its connection. Making one raises ConfigError
    for ``certificates`` that cannot be used. ``password`` is asked at each connect, instead of the one in ``url``; it
    may raise RetryableError.
    """

    def __init__(
        self,
        url: ClickHouseUrl,
        *,
        compression: str = "lz4",
        timeout_seconds: float = 60.0,
        certificates: Certificates = NO_CERTIFICATES,
        password: Callable[[], str] | None = None,
        connections: int = 4,
    ) -> None:
        certificates.check()
        self.url = url
        self._hosts = Hosts(url.hosts)
        self.timeout_seconds = timeout_seconds
        self._connection = partial(
            ProtocolConnection,
            hosts=self._hosts,
            database=url.database,
            user=url.user,
            ask_password=password or (lambda: url.password),
            client_name=CLIENT_NAME,
            connect_seconds=_connect_seconds(timeout_seconds, len(url.hosts)),
            compression=False if compression == "none" else compression,
            secure=url.secure,
            certificates=certificates,
        )
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[ProtocolConnection] = []
        self.quorum = Quorum(timeout_seconds)
        self._refused: set[str] = set()
        """Limits that the user may not lift."""
        self._waiting = 0
        """Which of ``WAITING_FOR_CLUSTER`` the server takes, as far as is known."""
        self._closed = False
        self._full_at = -inf

    def seconds_since_full(self) -> float:
        """How long ago a statement was refused for lack of disk space; infinite when none was."""
        return asyncio.get_running_loop().time() - self._full_at

    @property
    def connects(self) -> int:
        """How often a connection to the server was made."""
        return self._hosts.connects

    def __repr__(self) -> str:
        return f"<ClickHouse {self.url}>"

    async def execute(
        self, sql: str, *, settings: Settings | None = None, doing: str = "", columns: Collection[str] = ()
    ) -> None:
        """Run a statement and wait for its end.

        ``doing`` names it in errors; ``columns`` are the names that an error may repeat.
        """
        await self._run(sql, settings, doing, columns)

    async def define(self, sql: str, *, settings: Settings | None = None, doing: str = "") -> list[Row]:
        """Run a statement about tables or types, which holds no values: errors repeat what the server says of it.

        Of a cluster only servers that are up are waited for, and those not long; the others run it once they are back.

        Raises RefusedStatementError (a ConfigError) for what it will never accept.
        """
        for waiting in WAITING_FOR_CLUSTER[self._waiting : -1]:
            try:
                rows = await self._run(sql, {**waiting, **(settings or {})}, doing, (), definition=True)
            except DyncdcError as error:
                if error.code not in SETTING_NOT_TAKEN:
                    raise
            else:
                self._waiting = WAITING_FOR_CLUSTER.index(waiting)
                return rows
        return await self._run(sql, {**WAITING_FOR_CLUSTER[-1], **(settings or {})}, doing, (), definition=True)

    async def fetch(self, sql: str, *, settings: Settings | None = None, doing: str = "") -> list[Row]:
        """Run a query and return all of its rows."""
        return await self._run(sql, settings, doing, ())

    async def close(self) -> None:
        """Drop all idle connections; one in use goes when its call ends. Idempotent."""
        self._closed = True
        while self._idle:
            self._idle.pop().drop()
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    async def _run(
        self, sql: str, settings: Settings | None, doing: str, columns: Collection[str], *, definition: bool = False
    ) -> list[Row]:
        doing = doing or "querying ClickHouse"
        settings = {**await self.quorum.settings(sql, self.fetch), **(settings or {})}
        async with self._borrow() as connection:
            while True:
                sent = self._settings(sql, settings)
                try:
                    async with self._bounded(connection, doing, columns, definition=definition):
                        rows = await connection.run(sql, sent)
                except DyncdcError as error:
                    if error.code in SETTING_NOT_TAKEN:
                        connection.drop()  # the server leaves the rest of the statement unread, and hangs up
                    if not isinstance(error, SettingRefusedError):
                        raise
                    if error.setting not in (LIMITS.keys() & sent.keys()) - settings.keys():
                        raise  # or the statement needs it
                    self._refused.add(error.setting)
                else:
                    return rows

    @asynccontextmanager
    async def _borrow(self) -> AsyncIterator[ProtocolConnection]:
        """A connection for one call at a time. It comes back connected, or dropped by whatever went wrong."""
        async with self._slots:
            connection = self._idle.pop() if self._idle else self._connection()
            try:
                yield connection
            finally:
                if self._closed:
                    connection.drop()
                else:
                    self._idle.append(connection)

    @asynccontextmanager
    async def _bounded(
        self, connection: ProtocolConnection, doing: str, columns: Collection[str], *, definition: bool = False
    ) -> AsyncIterator[None]:
        """Bound what is awaited inside in time, and translate what it raises."""
        try:
            async with asyncio.timeout(self.timeout_seconds):
                yield
        except TimeoutError:
            seconds = f"{self.timeout_seconds:g} s"
            raise RetryableError(
                f"{doing} at {connection.place}: no answer in {seconds}; it may have been executed"
            ) from None
        except FAILURES as error:
            translated = translate(error, f"{doing} at {connection.place}", columns=columns, definition=definition)
            if translated.code == NOT_ENOUGH_SPACE:
                self._full_at = asyncio.get_running_loop().time()
            if translated.code in MISSED:
                self.quorum.forget()
            raise translated from None

    def _settings(self, sql: str, settings: Settings) -> dict[str, object]:
        return with_required_settings(settings, rows=isinstance(sql, Statement), refused=self._refused)


def _connect_seconds(timeout_seconds: float, hosts: int) -> float:
    """For one connect. Of several hosts those that never answer must leave a statement time for the others."""
    return min(CONNECT_TIMEOUT_SECONDS, timeout_seconds / hosts if hosts > 1 else timeout_seconds)
