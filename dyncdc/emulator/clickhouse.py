"""LocalClickHouse: a real ClickHouse on a directory, as a child process on loopback. No SQL beyond its own start."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from asynch.connection import Connection
from asynch.errors import ClickHouseException

from dyncdc.errors import ConfigError, FatalError

from .children import Child, ChildFailed, start_child
from .clickhouse_child import ENDPOINT_FILE, NO_WHEEL_EXIT, STOP_GRACE_SECONDS
from .clickhouse_directory import DirectoryInUse, display_name, empty_definitions, sole_starter, write_configuration
from .own_user import SOLE_USER, make_password, read_password

DEFAULT_DATABASE: Final = "dyncdc"
DEFAULT_MEMORY_BYTES: Final = 1 << 30
READY_TIMEOUT_SECONDS: Final = 30.0
CONNECT_TIMEOUT_SECONDS: Final = 5.0
PORT_ATTEMPTS: Final = 5
OWNER_WAIT_SECONDS: Final = 8.0
"""How long another process's server is waited for, be it to answer or to be gone: a clean stop may take 5 s."""

_LOCKED, _PORT_TAKEN = "Cannot lock file", "Address already in use"


class LocalClickHouse:
    """A ClickHouse server that starts and ends with this process. ``async with``, or ``start`` and ``stop``.

    Bound to no event loop: it may be started under one and stopped under another. Port 0 means a free one, kept over
    restarts of this object. ``users`` (name to password) come beside ``default``, which has no password. With
    ``secret`` no one but ``dyncdc`` is let in, by a password made up in the directory: any user of this machine
    reaches the ports, and could read with the rights of this process.
    """

    def __init__(
        self,
        directory: Path,
        *,
        tcp_port: int = 0,
        http_port: int = 0,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        database: str = DEFAULT_DATABASE,
        users: Mapping[str, str] | None = None,
        secret: bool = False,
    ) -> None:
        self.password = ""
        """Of ``user``, once it runs; "" when it has none."""
        self._secret = secret
        self.directory = directory
        self.tcp_port = tcp_port
        self.http_port = http_port
        self.database = database
        self._memory_bytes = memory_bytes
        self._users = dict(users or {})
        self._child: Child | None = None
        self._attached_pid = 0

    @property
    def pid(self) -> int:
        """The server's process id; 0 when it has not been started."""
        return self._child.pid if self._child is not None else self._attached_pid

    @property
    def user(self) -> str:
        """The user to log in as."""
        return SOLE_USER if self.password else "default"

    @property
    def owned(self) -> bool:
        """Whether this object started the server, and so will stop it."""
        return self._child is not None

    @property
    def running(self) -> bool:
        """Whether the server that this object started has not ended."""
        return self._child is not None and self._child.returncode is None

    @property
    def url(self) -> str:
        """Its address, as ``clickhouse.url`` takes it."""
        return f"clickhouse://{self.user}@127.0.0.1:{self.tcp_port}/{self.database}"

    async def __aenter__(self) -> LocalClickHouse:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the server and return once it has answered a query. Also starts it again after ``stop`` or ``kill``.

        Raises:
            DirectoryInUse: another server runs on the directory.
            ConfigError: a given port is taken, or the wheel is missing.
            FatalError: it does not start for another reason.
        """
        if self.running:
            return
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"starting ClickHouse on {self.directory}: {error.strerror}", hint="name a directory that it can write"
            ) from None
        with sole_starter(self.directory):
            if self._secret:
                make_password(self.directory)
            self.password = read_password(self.directory)
            await self._start()
        try:
            await self._query(f"CREATE DATABASE IF NOT EXISTS `{_escaped(self.database)}`", "default")
        except (ClickHouseException, OSError) as error:
            await self.stop()
            raise FatalError(f"starting ClickHouse on {self.directory}: {type(error).__name__} at its start") from None

    async def stop(self) -> None:
        """Stop the server: at once when no client is connected, after 5 s otherwise. Idempotent.

        Leaves a server alone that was only attached to.
        """
        child, self._child = self._child, None
        if child is not None:
            await child.stop(STOP_GRACE_SECONDS)

    def kill(self) -> None:
        """End the server at once with SIGKILL. For tests, and where there is no time."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    async def attach(self) -> bool:
        """Use the server that runs on the directory, if one does and answers; False otherwise."""
        try:
            endpoint = json.loads((self.directory / ENDPOINT_FILE).read_text())
            pid, tcp_port, http_port = (int(endpoint[key]) for key in ("pid", "tcp_port", "http_port"))
        except (OSError, ValueError, KeyError, TypeError):
            return False
        before = self.tcp_port, self.http_port
        self.tcp_port, self.http_port = tcp_port, http_port
        try:
            self.password = read_password(self.directory)
            # after a crash the file is stale, and its port may by now be anybody's
            if await self._query("SELECT displayName()", "default") == [(display_name(self.directory),)]:
                self._attached_pid = pid
                await self._query(f"CREATE DATABASE IF NOT EXISTS `{_escaped(self.database)}`", "default")
                return True
        except (ClickHouseException, OSError, ValueError):  # ValueError: whatever listens there is no ClickHouse
            pass
        self.tcp_port, self.http_port = before
        return False

    async def _start(self) -> None:
        given = (self.tcp_port, self.http_port)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.tcp_port, self.http_port = (port or _free_port() for port in given)
            self._write_configuration()
            try:
                self._child = await self._spawn()
                return
            except ChildFailed as error:
                # a free port was someone else's by the time the server asked for it
                again = _PORT_TAKEN in error.log and 0 in given and attempt < PORT_ATTEMPTS
                if not again:
                    raise self._explained(error) from None

    def _write_configuration(self) -> None:
        passwords = {**self._users, **({SOLE_USER: self.password} if self.password else {})}
        write_configuration(
            self.directory, (self.tcp_port, self.http_port), self._memory_bytes, passwords, sole=bool(self.password)
        )

    async def _spawn(self) -> Child:
        module = "dyncdc.emulator.clickhouse_child"
        return await start_child(
            ["-m", module, str(self.directory.resolve()), str(self.tcp_port), str(self.http_port)],
            name=f"ClickHouse on {self.directory}",
            log_file=self.directory / "server.log",
            ready_timeout_seconds=READY_TIMEOUT_SECONDS,
            environment=self._environment(),
        )

    def _environment(self) -> Mapping[str, str]:
        """What the server's process is given beside ours."""
        return {}

    def _explained(self, error: ChildFailed) -> FatalError | ConfigError:
        where = f"starting ClickHouse on {self.directory}"
        if error.returncode == NO_WHEEL_EXIT:
            return ConfigError(f"{where}: it is not installed", hint="pip install 'dyncdc[local]'")
        if _LOCKED in error.log:
            return DirectoryInUse(self.directory)
        if _PORT_TAKEN in error.log:
            return ConfigError(
                f"{where}: port {self.tcp_port} or {self.http_port} is taken", hint="free it, or name another port"
            )
        empty = ", ".join(empty_definitions(self.directory / "data")[:5])
        if empty:
            return FatalError(
                f"{where}: a table's definition is empty ({empty}); an ALTER while the disk is full leaves such a file",
                hint="free disk space; then write its ATTACH TABLE statement into the file, or move the file away:"
                " dyncdc makes and loads the table again",
            )
        return error

    async def _query(self, sql: str, database: str) -> list[tuple[object, ...]]:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            async with Connection(
                host="127.0.0.1", port=self.tcp_port, database=database, user=self.user, password=self.password
            ) as connection:
                async with connection.cursor() as cursor:
                    await cursor.execute(sql)
                    return list(await cursor.fetchall())


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("`", "\\`")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def open_local(directory: Path, *, database: str = DEFAULT_DATABASE, own: bool = False) -> LocalClickHouse:
    """Attach to the server that runs on ``directory``, or start one. ``stop`` it in either case.

    ``own``: never attach to a server that ends with another process; wait a while for a short command's to end.
    Raises DirectoryInUse, ConfigError, FatalError.
    """
    server = LocalClickHouse(directory, database=database, secret=True)
    deadline = asyncio.get_running_loop().time() + OWNER_WAIT_SECONDS
    while True:
        if not own and await server.attach():
            return server
        try:
            await server.start()
            return server
        except DirectoryInUse:  # someone is just starting it, or stopping it
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.1)
