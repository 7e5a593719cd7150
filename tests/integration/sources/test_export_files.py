"""The contract of a source, for the data files of an export: real objects, real HTTP, broken connections."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import random
import tracemalloc
import uuid

import pytest
from support.servers.tcp_proxy import TcpProxy

from dyncdc.errors import CorruptSnapshotError, FatalError
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.sources.clients import AwsClients, open_clients
from dyncdc.sources.export.data_files import ExportSource
from dyncdc.sources.export.manifest import DataFile

from .conftest import REGION, read_on

ARN = "arn:aws:dynamodb:eu-west-1:000000000000:table/t/export/01-a"


def items(count: int, width: int = 60, seed: int = 0) -> list[bytes]:
    """Lines of an export that compress badly, so that a file spans many pieces."""
    chance = random.Random(seed)
    return [
        b'{"Item":{"n":{"N":"%d"},"x":{"S":"%s"}}}' % (n, chance.randbytes(width).hex().encode()) for n in range(count)
    ]


async def put(clients: AwsClients, key: str, body: bytes, count: int) -> tuple[str, DataFile]:
    """Store one data file in a bucket of its own; returns the bucket and the file's line of the manifest."""
    bucket = f"b-{uuid.uuid4()}"
    await clients.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    await clients.s3.put_object(Bucket=bucket, Key=key, Body=body)
    return bucket, DataFile(key, count, hashlib.md5(body).digest())


def lines_of(chunks: list[RawChunk]) -> list[bytes]:
    return [record for chunk in chunks for record in chunk.records]


@pytest.mark.parametrize("key", ["data/a.json.gz", "pre fix/ü+%2F&?#'\"=:@!/data/ä b.json.gz"])
async def test_s13_every_line_comes_once_in_order_with_its_number_whatever_the_key(aws: AwsClients, key: str) -> None:
    wanted = items(3000)
    bucket, file = await put(aws, key, gzip.compress(b"\n".join(wanted) + b"\n"), len(wanted))
    source = ExportSource(aws.s3, SourceId(ARN), "t", bucket, [file])
    (shard,) = [shard async for page in source.list_shards() for shard in page]
    assert shard == Shard(source.id, ShardId(key))
    chunks = await read_on(source, shard, source.start_position(shard), 50_000)
    assert lines_of(chunks) == wanted
    assert [position for chunk in chunks for position in chunk.positions] == [str(n) for n in range(1, 3001)]
    assert all(chunk.end == chunk.positions[-1] for chunk in chunks if chunk.records)
    assert [chunk.closed for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert all(sum(map(len, chunk.records)) <= 50_000 + 4096 + 200 for chunk in chunks)
    await source.close()


@pytest.mark.parametrize("after", [0, 1, 1499, 1500])
async def test_s8_reading_goes_on_behind_any_line(aws: AwsClients, after: int) -> None:
    wanted = items(1500)
    bucket, file = await put(aws, "f", gzip.compress(b"\n".join(wanted)), len(wanted))
    source = ExportSource(aws.s3, SourceId(ARN), "t", bucket, [file])
    chunks = await read_on(source, Shard(source.id, ShardId("f")), Position(str(after)), 20_000)
    assert lines_of(chunks) == wanted[after:]
    assert chunks[-1].end == "1500"


async def test_a_position_may_jump_back_and_forth(aws: AwsClients) -> None:
    wanted = items(400)
    bucket, file = await put(aws, "f", gzip.compress(b"\n".join(wanted)), len(wanted))
    source = ExportSource(aws.s3, SourceId(ARN), "t", bucket, [file])
    shard = Shard(source.id, ShardId("f"))
    first = await source.fetch(shard, HORIZON, 5000)
    again = await source.fetch(shard, HORIZON, 5000)
    assert first == again
    assert (await source.fetch(shard, Position("300"), 1)).records[0] == wanted[300]
    await source.close()


async def test_a_broken_connection_goes_on_at_its_byte(aws: AwsClients, aws_url: str) -> None:
    wanted = items(12_000)
    bucket, file = await put(aws, "f", gzip.compress(b"\n".join(wanted)), len(wanted))
    proxy = TcpProxy(aws_url)
    async with proxy.running(), open_clients(REGION, endpoint_url=proxy.url) as clients:
        source = ExportSource(clients.s3, SourceId(ARN), "t", bucket, [file])
        proxy.cuts = [200_000, 100_000, 150_000]
        chunks = await read_on(source, Shard(source.id, ShardId("f")), HORIZON, 100_000)
        await source.close()
    assert lines_of(chunks) == wanted
    assert proxy.connections >= 4


async def test_a_cancelled_fetch_loses_no_line(aws: AwsClients, aws_url: str) -> None:
    wanted = items(6000)
    bucket, file = await put(aws, "f", gzip.compress(b"\n".join(wanted)), len(wanted))
    proxy = TcpProxy(aws_url)
    async with proxy.running(), open_clients(REGION, endpoint_url=proxy.url) as clients:
        source = ExportSource(clients.s3, SourceId(ARN), "t", bucket, [file])
        shard = Shard(source.id, ShardId("f"))
        proxy.stall_after_bytes = 200_000
        first = await source.fetch(shard, HORIZON, 20_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await source.fetch(shard, first.end, 10**7)
        proxy.resumed.set()
        rest = await read_on(source, shard, first.end, 10**6)
        await source.close()
    assert list(first.records) + lines_of(rest) == wanted
    assert proxy.connections == 1


GOOD = gzip.compress(b'{"Item":{}}\n' * 5)


@pytest.mark.parametrize(
    ("body", "count", "says"),
    [
        (GOOD, 6, "holds 5 items, the manifest says 6"),
        (GOOD[:-3], 5, "cut short"),
        (b"plain text", 5, "not valid gzip"),
        (b"", 5, "holds 0 items, the manifest says 5"),
    ],
    ids=["count", "truncated", "not gzip", "empty object"],
)
async def test_s7_a_bad_file_never_ends_and_is_named(aws: AwsClients, body: bytes, count: int, says: str) -> None:
    bucket, file = await put(aws, "data/x.json.gz", body, count)
    source = ExportSource(aws.s3, SourceId(ARN), "t", bucket, [file])
    for _ in range(2):
        with pytest.raises(CorruptSnapshotError, match=f"s3://{bucket}/data/x.json.gz.*{says}"):
            await read_on(source, Shard(source.id, ShardId("data/x.json.gz")), HORIZON, 1000)


async def test_s7_an_object_of_another_md5_never_ends(aws: AwsClients) -> None:
    bucket, file = await put(aws, "f", GOOD, 5)
    source = ExportSource(aws.s3, SourceId(ARN), "t", bucket, [DataFile("f", 5, b"\x00" * 16)])
    with pytest.raises(CorruptSnapshotError, match="md5 differs"):
        await read_on(source, Shard(source.id, ShardId(file.key)), HORIZON, 1000)


async def test_s7_a_missing_object_is_named_and_the_rest_goes_on(aws: AwsClients) -> None:
    bucket, file = await put(aws, "there", GOOD, 5)
    source = ExportSource(aws.s3, SourceId(ARN), "t", bucket, [DataFile("missing", 5, file.md5), file])
    with pytest.raises(CorruptSnapshotError, match="/missing: NoSuchKey"):
        await source.fetch(Shard(source.id, ShardId("missing")), HORIZON, 1000)
    assert len(lines_of(await read_on(source, Shard(source.id, ShardId("there")), HORIZON, 1000))) == 5


@pytest.mark.parametrize("body", [gzip.compress(b""), b""], ids=["empty gzip", "no bytes"])
async def test_s7_a_file_without_items_ends_at_once(aws: AwsClients, body: bytes) -> None:
    bucket, file = await put(aws, "f", body, 0)
    source = ExportSource(aws.s3, SourceId(ARN), "t", bucket, [file])
    (chunk,) = await read_on(source, Shard(source.id, ShardId("f")), HORIZON, 1000)
    assert (chunk.records, chunk.end, chunk.closed, chunk.at_tip) == ([], "0", True, True)


async def test_the_end_can_be_asked_for_again(aws: AwsClients) -> None:
    bucket, file = await put(aws, "f", GOOD, 5)
    source = ExportSource(aws.s3, SourceId(ARN), "t", bucket, [file])
    shard = Shard(source.id, ShardId("f"))
    await read_on(source, shard, HORIZON, 1000)
    for _ in range(2):
        chunk = await source.fetch(shard, Position("5"), 1000)
        assert (list(chunk.records), chunk.closed, chunk.end) == ([], True, "5")
        source.forget(shard)


async def test_a_position_past_the_end_is_no_end(aws: AwsClients) -> None:
    bucket, file = await put(aws, "f", GOOD, 5)
    source = ExportSource(aws.s3, SourceId(ARN), "t", bucket, [file])
    with pytest.raises(FatalError):
        await source.fetch(Shard(source.id, ShardId("f")), Position("6"), 1000)


async def test_memory_does_not_follow_the_compression_ratio(aws: AwsClients) -> None:
    line = b'{"Item":{"x":{"S":"%s"}}}' % (b"y" * 1000)
    bucket, file = await put(aws, "f", gzip.compress((line + b"\n") * 60_000, 9), 60_000)
    source = ExportSource(aws.s3, SourceId(ARN), "t", bucket, [file])
    shard = Shard(source.id, ShardId("f"))
    chunk = await source.fetch(shard, HORIZON, 500_000)
    count = len(chunk.records)
    tracemalloc.start()
    try:
        for _ in range(20):
            chunk = await source.fetch(shard, chunk.end, 500_000)
            count += len(chunk.records)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        await source.close()
    assert count > 9000
    assert most < 4 * 2**20


async def test_lines_are_read_again_by_their_numbers_beside_the_reading_that_goes_on(aws: AwsClients) -> None:
    wanted = items(3000)
    bucket, file = await put(aws, "data/a.json.gz", gzip.compress(b"\n".join(wanted)), len(wanted))
    source = ExportSource(aws.s3, SourceId(ARN), "t", bucket, [file])
    shard = Shard(source.id, ShardId("data/a.json.gz"))
    chunk = await source.fetch(shard, HORIZON, 50_000)
    again = [Position(str(number)) for number in (1, 2, 1500, 3000)]
    assert [pair async for pair in source.reread(shard, again)] == [(at, wanted[int(at) - 1]) for at in again]
    assert [pair async for pair in source.reread(Shard(source.id, ShardId("another")), again)] == []
    rest = await read_on(source, shard, chunk.end, 500_000)
    assert lines_of([chunk, *rest]) == wanted
