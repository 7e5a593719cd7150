"""One local AWS and one ClickHouse for all tests of a worker; each test has a database and names of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyncdc.emulator.aws import LocalAws
from dyncdc.emulator.aws.server.settings import Settings
from dyncdc.emulator.clickhouse import LocalClickHouse
from support.processes import harness
from support.processes.forkserver import ForkServer
from support.processes.harness import ClickHouseHttp, forks

from .aws import Aws
from .place import Place

GUEST, GUEST_PASSWORD = "guest", "open sesame"
MEMORY, IN_MEMORY = Path("/dev/shm"), "dyncdc-tests-"
ROOM_BYTES = 4 << 30
"""For the servers of all workers, many times over."""

OTHER, OTHER_PASSWORD = "ada", "correct horse"


@pytest.fixture(scope="session")
def aws() -> Iterator[Aws]:
    """The local AWS; or the one that AWS_ENDPOINT_URL names, such as LocalStack."""
    with contextlib.ExitStack() as stack:
        given = os.environ.get("AWS_ENDPOINT_URL", "")
        if not given:
            runner = stack.enter_context(asyncio.Runner())
            server = LocalAws()
            runner.run(server.start())
            stack.callback(lambda: runner.run(server.stop()))
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
        clients = Aws(os.environ["AWS_ENDPOINT_URL"], local=not given)
        stack.callback(clients.close)
        yield clients


@pytest.fixture(scope="session")
def server_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a server keeps its data: in memory if there is room, where to sync a file costs nothing.

    A killed server finds there what it has synced as it would on a disk. Who was killed here cleared nothing away.
    """
    for left in MEMORY.glob(f"{IN_MEMORY}*"):
        if not Path("/proc", left.name.removeprefix(IN_MEMORY)).exists():
            shutil.rmtree(left, ignore_errors=True)
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < ROOM_BYTES:
        yield tmp_path_factory.mktemp("clickhouse")
        return
    directory = MEMORY / f"{IN_MEMORY}{os.getpid()}"
    directory.mkdir(mode=0o700)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)  # what stays, the next run clears away


@pytest.fixture(scope="session")
def clickhouse_server(server_directory: Path) -> Iterator[LocalClickHouse]:
    """A real ClickHouse, also of the contracts. Who kills it starts it again: it keeps its data and its ports."""
    users = {GUEST: GUEST_PASSWORD, OTHER: OTHER_PASSWORD}
    server = LocalClickHouse(server_directory / "clickhouse", users=users)
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture(scope="session")
def clickhouse(clickhouse_server: LocalClickHouse) -> LocalClickHouse:
    """The same. To the contracts this name means a connection to it."""
    return clickhouse_server


@pytest.fixture(scope="session")
def forking() -> Iterator[None]:
    """Processes of the product are forked from one that has imported it."""
    server = ForkServer()
    forks.append(server)
    yield
    forks.clear()
    server.close()


@pytest.fixture
def interpreters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process of the product starts an interpreter of its own: what a signal meets in its start is the point."""
    monkeypatch.setattr(harness, "forks", [])


@pytest.fixture
def place(aws: Aws, clickhouse: LocalClickHouse, forking: None, tmp_path: Path) -> Iterator[Place]:
    """This test's own names; faults and settings of the local AWS are put back, its daemons killed."""
    made = Place(f"t{uuid.uuid4().hex[:8]}", tmp_path, aws, clickhouse)
    ClickHouseHttp(clickhouse.http_port).run(f"CREATE DATABASE {made.name}")
    try:
        yield made
    finally:
        made.leave()
        if aws.local:
            aws.clear_faults()
            aws.set(**Settings().as_dict())
