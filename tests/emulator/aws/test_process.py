"""The child process: starts, says where, ends when told or orphaned."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.servers.aws_calls import make_table

from dyncdc.emulator.aws import LocalAws, LocalAwsError

ClientsOf = Callable[[LocalAws], AbstractAsyncContextManager[Any]]

ORPHANAGE = """
import asyncio
from dyncdc.emulator.aws import LocalAws

async def main() -> None:
    aws = LocalAws()
    await aws.start()
    print(aws.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie that waits to be reaped."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


async def spawn(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=pipe, stderr=pipe)


async def test_it_dies_with_a_parent_that_was_killed() -> None:
    parent = await spawn("-c", ORPHANAGE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    await parent.communicate()
    async with asyncio.timeout(5):
        while is_running(pid):  # noqa: ASYNC110  # not our child: nothing to wait on
            await asyncio.sleep(0.01)


async def test_it_prints_one_line_and_stops_cleanly_on_sigterm() -> None:
    process = await spawn("-m", "dyncdc.emulator.aws", "--port", "0")
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    endpoint = line.split()[-1]
    assert endpoint.startswith("http://127.0.0.1:")
    async with aiohttp.ClientSession() as session, session.get(f"{endpoint}/_dyncdc/health") as answer:
        assert answer.status == 200
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)  # while a client still holds its connection
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b"", b"")
    assert time.monotonic() - started < 3


async def test_it_stops_at_once_in_the_middle_of_an_export(name: str, clients_of: ClientsOf) -> None:
    async with LocalAws(settings={"export_delay_seconds": 60.0}) as aws:
        async with clients_of(aws) as clients:
            arn = await make_table(clients.dynamodb, name)
            await clients.s3.create_bucket(Bucket=name)
            await clients.dynamodb.update_continuous_backups(
                TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
            )
            await clients.dynamodb.export_table_to_point_in_time(TableArn=arn, S3Bucket=name)
        started, pid = time.monotonic(), aws.pid
    assert not is_running(pid)
    assert time.monotonic() - started < 2


async def test_a_taken_port_is_one_line_and_a_failure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LocalAwsError, match=f"127.0.0.1:{port}: address already in use"):
            await LocalAws(port=port).start()
        process = await spawn("-m", "dyncdc.emulator.aws", "--port", str(port))
        out, err = await process.communicate()
    assert process.returncode == 1
    assert out == b""
    assert len(err.splitlines()) == 1


async def test_it_listens_on_loopback_only(local_aws: LocalAws) -> None:
    port = int(local_aws.endpoint_url.rpartition(":")[2])
    listening = [line.split() for line in Path(f"/proc/{local_aws.pid}/net/tcp").read_text().splitlines()[1:]]
    addresses = {row[1] for row in listening if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
    assert addresses == {f"0100007F:{port:04X}"}
    assert os.getpid() != local_aws.pid


async def test_every_answer_carries_the_servers_date(clients: Any) -> None:
    for answer in (
        await clients.kinesis.list_streams(),
        await clients.dynamodb.list_tables(),
        await clients.s3.list_buckets(),
    ):
        date = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        assert abs(date.timestamp() - time.time()) < 5
