"""The contract of a source, for a Kinesis stream: discovery, positions, the end of a shard, ways to be refused."""

from __future__ import annotations

import asyncio
import time

import pytest
from support.servers.kinesis_server import KinesisServer

from dyncdc.emulator.aws.kinesis import records as kinesis_records
from dyncdc.emulator.aws.server.wire import AwsError
from dyncdc.errors import ConfigError, FatalError, PositionLostError, RetryableError
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard, ShardId
from dyncdc.sources.aws_errors import CredentialsError, ThrottledError
from dyncdc.sources.clients import AwsClients, open_clients
from dyncdc.sources.kinesis.stream_source import KinesisSource, open_stream

from .conftest import REGION

STREAM = "changes"
MIDDLE = str(2**127)
WANT_BYTES = 1_000_000


async def make(clients: AwsClients, shards: int = 1) -> None:
    await clients.kinesis.create_stream(StreamName=STREAM, ShardCount=shards)


async def put(clients: AwsClients, *payloads: bytes, key: str = "k") -> None:
    for first in range(0, len(payloads), 50):
        records = [{"Data": data, "PartitionKey": key} for data in payloads[first : first + 50]]
        answer = await clients.kinesis.put_records(StreamName=STREAM, Records=records)
        assert answer["FailedRecordCount"] == 0


async def listed(source: KinesisSource) -> list[Shard]:
    return [shard async for page in source.list_shards() for shard in page]


async def opened(clients: AwsClients, start: str = "TRIM_HORIZON") -> tuple[KinesisSource, Shard]:
    """The source, and its first shard."""
    source = await open_stream(clients, STREAM, start=start, poll_interval_seconds=0.0)
    return source, (await listed(source))[0]


async def read_on(source: KinesisSource, shard: Shard, after: Position, want_bytes: int = WANT_BYTES) -> list[RawChunk]:
    """Fetch to the tip or the end."""
    chunks = [await source.fetch(shard, after, want_bytes)]
    while not (chunks[-1].closed or chunks[-1].at_tip):
        chunks.append(await source.fetch(shard, chunks[-1].end, want_bytes))
    return chunks


def data_of(chunks: list[RawChunk]) -> list[bytes]:
    return [record for chunk in chunks for record in chunk.records]


def refused(code: str) -> AwsError:
    return AwsError(code, "injected")


# Opening a stream


@pytest.mark.parametrize("by", [STREAM, f"arn:aws:kinesis:{REGION}:000000000000:stream/{STREAM}"])
async def test_a_stream_is_known_by_arn_and_creation_time(server: KinesisServer, clients: AwsClients, by: str) -> None:
    await make(clients)
    source = await open_stream(clients, by)
    (stream,) = server.kinesis.streams.values()
    assert source.id == f"{stream.arn}@{int(stream.created)}"
    assert (source.label, source.arn, source.retention_seconds) == (STREAM, stream.arn, 86_400.0)


async def test_a_stream_says_whether_it_keeps_the_changes_of_a_key_together(
    server: KinesisServer, clients: AwsClients
) -> None:
    """The pinned SDK knows neither the field nor the call."""
    await clients.kinesis.create_stream(StreamName=STREAM, StreamModeDetails={"StreamMode": "ON_DEMAND"})
    assert (await open_stream(clients, STREAM)).by_key
    request = {"StreamName": STREAM, "RecordDistributionStrategy": "AUTO"}
    server.kinesis.operations["UpdateStreamRecordDistributionStrategy"](request, REGION)
    assert not (await open_stream(clients, STREAM)).by_key


async def test_no_such_stream_is_a_config_error_with_advice(clients: AwsClients) -> None:
    with pytest.raises(ConfigError, match="describing stream nope") as caught:
        await open_stream(clients, "nope")
    assert "list-streams" in caught.value.hint


@pytest.mark.parametrize("status", ["CREATING", "DELETING"])
async def test_a_stream_that_cannot_be_read_yet_or_any_more(
    server: KinesisServer, clients: AwsClients, status: str
) -> None:
    await make(clients)
    next(iter(server.kinesis.streams.values())).set_busy(status, 60.0)
    with pytest.raises(RetryableError):
        await open_stream(clients, STREAM)


@pytest.mark.parametrize("code", ["AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException"])
async def test_refused_credentials_are_told_from_other_errors(
    server: KinesisServer, clients: AwsClients, code: str
) -> None:
    server.faults["DescribeStreamSummary"].append(refused(code))
    with pytest.raises(CredentialsError):
        await open_stream(clients, STREAM)


async def test_an_unreachable_endpoint_is_retryable() -> None:
    async with open_clients(REGION, endpoint_url="http://127.0.0.1:1") as nowhere:
        with pytest.raises(RetryableError, match="describing stream"):
            await open_stream(nowhere, STREAM)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"<html>", b'{"StreamDescriptionSummary":7}'])
async def test_an_answer_that_is_none_is_retryable(server: KinesisServer, clients: AwsClients, body: bytes) -> None:
    server.faults["DescribeStreamSummary"].append(body)
    with pytest.raises(RetryableError):
        await open_stream(clients, STREAM)


# Discovery


async def test_k10_all_of_2500_shards_are_listed_in_pages(server: KinesisServer, clients: AwsClients) -> None:
    await make(clients, shards=2500)
    server.settings.token_ttl_seconds = 0.0  # every NextToken has expired before it can be used
    source = await open_stream(clients, STREAM)
    pages = [page async for page in source.list_shards()]
    assert [len(page) for page in pages] == [1000, 1000, 500]
    assert len({shard.id for page in pages for shard in page}) == 2500


async def test_k11_pages_that_were_listed_stand_when_a_later_one_fails(
    server: KinesisServer, clients: AwsClients
) -> None:
    await make(clients, shards=1500)
    source = await open_stream(clients, STREAM)
    server.faults["ListShards"].extend([None, refused("LimitExceededException")])
    seen: list[Shard] = []
    with pytest.raises(RetryableError):
        async for page in source.list_shards():
            seen += page
    assert len(seen) == 1000


async def test_k3_closed_shards_are_listed_with_their_children_and_parents(clients: AwsClients) -> None:
    await make(clients)
    source, first = await opened(clients)
    await clients.kinesis.split_shard(StreamName=STREAM, ShardToSplit=first.id, NewStartingHashKey=MIDDLE)
    left, right = (ShardId(f"shardId-{n:012d}") for n in (1, 2))
    await clients.kinesis.merge_shards(StreamName=STREAM, ShardToMerge=left, AdjacentShardToMerge=right)
    parents = {shard.id: shard.parents for shard in await listed(source)}
    assert parents == {
        first.id: frozenset(),
        left: frozenset({first.id}),
        right: frozenset({first.id}),
        ShardId("shardId-000000000003"): frozenset({left, right}),
    }


async def test_k3_every_record_is_read_after_reshards(clients: AwsClients) -> None:
    await make(clients)
    source, first = await opened(clients)
    await put(clients, b"before")
    await clients.kinesis.split_shard(StreamName=STREAM, ShardToSplit=first.id, NewStartingHashKey=MIDDLE)
    for number in range(20):
        await put(clients, b"between %d" % number, key=str(number))
    await clients.kinesis.update_shard_count(StreamName=STREAM, TargetShardCount=1, ScalingType="UNIFORM_SCALING")
    await put(clients, b"after")
    found = [data for shard in await listed(source) for data in data_of(await read_on(source, shard, HORIZON))]
    assert sorted(found) == sorted([b"before", b"after", *(b"between %d" % number for number in range(20))])


async def test_k13_a_stream_created_again_is_not_the_old_one(server: KinesisServer, clients: AwsClients) -> None:
    await make(clients)
    await put(clients, b"old")
    source, shard = await opened(clients)
    end = (await source.fetch(shard, HORIZON, WANT_BYTES)).end
    await clients.kinesis.delete_stream(StreamName=STREAM)
    await make(clients)
    next(iter(server.kinesis.streams.values())).created += 5.0
    with pytest.raises(PositionLostError, match="created again"):
        await listed(source)
    with pytest.raises(PositionLostError):
        await source.fetch(shard, end, WANT_BYTES)
    assert (await open_stream(clients, STREAM)).id != source.id


async def test_a_deleted_stream_has_lost_its_positions(clients: AwsClients) -> None:
    await make(clients)
    source, shard = await opened(clients)
    await clients.kinesis.delete_stream(StreamName=STREAM)
    with pytest.raises(PositionLostError):
        await listed(source)
    with pytest.raises(PositionLostError, match="from its oldest record"):
        await source.fetch(shard, HORIZON, WANT_BYTES)


async def test_the_retention_follows_the_stream(clients: AwsClients) -> None:
    await make(clients)
    source, _ = await opened(clients)
    await clients.kinesis.increase_stream_retention_period(StreamName=STREAM, RetentionPeriodHours=168)
    await listed(source)
    assert source.retention_seconds == 168 * 3600.0


# Reading


async def test_records_come_once_in_order_each_with_its_position(clients: AwsClients) -> None:
    await make(clients)
    wanted = [b"%d" % number for number in range(1200)]
    await put(clients, *wanted)
    source, shard = await opened(clients)
    chunks = await read_on(source, shard, HORIZON, 20_000)
    assert data_of(chunks) == wanted
    numbers = [int(position) for chunk in chunks for position in chunk.positions]
    assert numbers == sorted(set(numbers))
    assert all(chunk.end == chunk.positions[-1] for chunk in chunks)
    assert all(chunk.nbytes <= 40_000 for chunk in chunks)


async def test_reading_goes_on_behind_any_record(clients: AwsClients) -> None:
    await make(clients)
    await put(clients, *(b"%d" % number for number in range(20)))
    source, shard = await opened(clients)
    (chunk,) = await read_on(source, shard, HORIZON)
    for index, position in enumerate(chunk.positions):
        assert data_of(await read_on(source, shard, position)) == list(chunk.records[index + 1 :])


async def test_read_until_is_arrival_while_behind_and_server_time_at_the_tip(clients: AwsClients) -> None:
    await make(clients)
    begun = time.time()
    await put(clients, b"a", b"b" * 2000)
    await asyncio.sleep(0.02)
    source, shard = await opened(clients)
    first = await source.fetch(shard, HORIZON, 1)
    assert not first.at_tip
    assert begun - 0.01 <= first.read_until <= time.time() - 0.02
    last = await source.fetch(shard, first.end, WANT_BYTES)
    assert last.at_tip
    assert int(begun) <= last.read_until <= time.time()
    idle = await source.fetch(shard, last.end, WANT_BYTES)
    assert (idle.records, idle.end, idle.at_tip, idle.nbytes) == ([], last.end, True, 0)


@pytest.mark.parametrize("grain_seconds", [1.0, 1e9], ids=["whole seconds", "never known"])
@pytest.mark.parametrize("want_bytes", [1, 50_000, WANT_BYTES])
async def test_the_tip_is_an_answer_that_could_have_held_more_whatever_distance_it_tells(
    server: KinesisServer, clients: AwsClients, grain_seconds: float, want_bytes: int
) -> None:
    """Catches: a full answer taken for the tip, where the service does not know how far it is, or cuts that down."""
    server.settings.behind_grain_seconds = grain_seconds
    server.settings.arrival_grain_seconds = 1.0
    await make(clients)
    wanted = [b"%d" % number for number in range(300)]
    await put(clients, *wanted)
    last_arrival = time.time()
    source, shard = await opened(clients)
    chunks = await read_on(source, shard, HORIZON, want_bytes)
    assert data_of(chunks) == wanted
    assert all(chunk.behind_seconds > 0 and chunk.read_until <= last_arrival for chunk in chunks[:-1])


async def test_an_answer_that_is_cut_for_its_size_is_not_the_tip(server: KinesisServer, clients: AwsClients) -> None:
    server.settings.behind_grain_seconds = 1e9
    await make(clients)
    wanted = [bytes([number]) * 700_000 for number in range(18)]
    for data in wanted:
        await put(clients, data)
    source, shard = await opened(clients)
    assert data_of(await read_on(source, shard, HORIZON, 100 * 2**20)) == wanted


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_an_answer_before_a_record_that_fills_one_is_not_the_tip(
    server: KinesisServer, clients: AwsClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinesis_records, "MAX_PUT_BYTES", 2**30)
    server.settings.behind_grain_seconds = 1e9
    server.settings.max_record_bytes = 10 * 2**20
    await make(clients)
    wanted = [b"small" * 10, b"x" * (10 * 2**20 - 10), b"small too"]
    for data in wanted:
        await put(clients, data)
    source, shard = await opened(clients)
    assert data_of(await read_on(source, shard, HORIZON, 100 * 2**20)) == wanted


async def test_how_large_answers_may_be_is_what_the_stream_says_of_its_records(
    server: KinesisServer, clients: AwsClients
) -> None:
    await make(clients)
    source = await open_stream(clients, STREAM)
    assert source.largest_answer_bytes == 0, "records are as small as ever: answers keep to what is asked for"
    server.settings.max_record_bytes = 3 * 2**20
    await source.look_at_retention()
    assert source.largest_answer_bytes == 10 * 2**20
    assert (await open_stream(clients, STREAM)).largest_answer_bytes == 10 * 2**20


async def test_the_last_answer_of_a_closed_shard_has_records_and_children(clients: AwsClients) -> None:
    await make(clients)
    await put(clients, b"last")
    source, shard = await opened(clients)
    await clients.kinesis.split_shard(StreamName=STREAM, ShardToSplit=shard.id, NewStartingHashKey=MIDDLE)
    (chunk,) = await read_on(source, shard, HORIZON)
    assert (list(chunk.records), chunk.closed, chunk.at_tip) == ([b"last"], True, True)
    assert {child.id: child.parents for child in chunk.children} == {
        ShardId("shardId-000000000001"): {shard.id},
        ShardId("shardId-000000000002"): {shard.id},
    }
    assert all(child.source == source.id for child in chunk.children)
    again = await source.fetch(shard, chunk.end, WANT_BYTES)
    assert (again.records, again.closed, again.children) == ([], True, chunk.children)


async def test_k2_a_merged_shard_names_both_parents(clients: AwsClients) -> None:
    await make(clients, shards=2)
    source, shard = await opened(clients)
    both = [one.id for one in await listed(source)]
    await clients.kinesis.merge_shards(StreamName=STREAM, ShardToMerge=both[0], AdjacentShardToMerge=both[1])
    (chunk,) = await read_on(source, shard, HORIZON)
    (child,) = chunk.children
    assert child.parents == frozenset(both)


async def test_k4_latest_leaves_no_gap_over_a_reshard(clients: AwsClients) -> None:
    await make(clients)
    source, shard = await opened(clients, "LATEST")
    start = source.start_position(shard)
    await put(clients, b"parent")
    await clients.kinesis.split_shard(StreamName=STREAM, ShardToSplit=shard.id, NewStartingHashKey=MIDDLE)
    await put(clients, b"child", key="a")
    (chunk,) = await read_on(source, shard, start)
    assert list(chunk.records) == [b"parent"]
    assert [source.start_position(child) for child in chunk.children] == [HORIZON, HORIZON]
    assert [d for child in chunk.children for d in data_of(await read_on(source, child, HORIZON))] == [b"child"]


async def test_k4_latest_skips_what_was_there(server: KinesisServer, clients: AwsClients) -> None:
    await make(clients)
    await put(clients, b"old")
    (stream,) = server.kinesis.streams.values()
    stream.shards["shardId-000000000000"]._arrivals[0] -= 10.0
    source, shard = await opened(clients, "LATEST")
    await put(clients, b"new")
    assert data_of(await read_on(source, shard, source.start_position(shard))) == [b"new"]


async def test_k6_an_expired_iterator_is_renewed_at_once_from_the_position(
    server: KinesisServer, clients: AwsClients
) -> None:
    await make(clients)
    await put(clients, b"a", b"b")
    source, shard = await opened(clients)
    first = await source.fetch(shard, HORIZON, 1)
    server.settings.iterator_ttl_seconds = 0.03
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    assert list((await source.fetch(shard, first.end, WANT_BYTES)).records) == [b"b"]
    assert time.monotonic() - begun < 0.2
    assert server.calls["GetShardIterator"] == 2


async def test_k6_iterators_that_expire_again_and_again_are_retryable(
    server: KinesisServer, clients: AwsClients
) -> None:
    await make(clients)
    source, shard = await opened(clients)
    server.faults["GetRecords"].extend([refused("ExpiredIteratorException")] * 2)
    with pytest.raises(RetryableError):
        await source.fetch(shard, HORIZON, WANT_BYTES)
    assert (await source.fetch(shard, HORIZON, WANT_BYTES)).at_tip


async def test_k7_a_vanished_shard_is_lost_with_its_exact_position(server: KinesisServer, clients: AwsClients) -> None:
    await make(clients, shards=2)
    await put(clients, b"a")
    source = await open_stream(clients, STREAM)
    for shard in await listed(source):
        end = (await source.fetch(shard, HORIZON, WANT_BYTES)).end
        if end != HORIZON:
            gone, position = shard, end
    (stream,) = server.kinesis.streams.values()
    del stream.shards[gone.id]
    with pytest.raises(PositionLostError, match=f"{gone.id} of {STREAM} after sequence number {position}"):
        await source.fetch(gone, position, WANT_BYTES)
    (other,) = await listed(source)
    assert (await source.fetch(other, HORIZON, WANT_BYTES)).at_tip


async def test_k8_a_number_that_never_came_from_this_shard_is_lost(clients: AwsClients) -> None:
    await make(clients)
    source, shard = await opened(clients)
    with pytest.raises(PositionLostError, match="after sequence number 5"):
        await source.fetch(shard, Position("5"), WANT_BYTES)


async def test_k9_500_empty_answers_before_data_are_no_end(server: KinesisServer, clients: AwsClients) -> None:
    await make(clients)
    await put(clients, b"found")
    source, shard = await opened(clients)
    server.faults["GetRecords"].extend(["empty"] * 500)
    chunks = await read_on(source, shard, HORIZON)
    assert [len(chunk.records) for chunk in chunks] == [0] * 500 + [1]
    assert not any(chunk.closed or chunk.at_tip for chunk in chunks[:-1])
    assert all(chunk.read_until > 0 for chunk in chunks)
    assert server.calls["GetShardIterator"] == 1


async def test_k12_a_throttled_shard_asks_for_less_and_goes_on(server: KinesisServer, clients: AwsClients) -> None:
    await make(clients)
    await put(clients, *(b"%d" % number + b"x" * 9000 for number in range(300)))
    source, shard = await opened(clients)
    end = (await source.fetch(shard, HORIZON, 100_000)).end
    asked = server.requests["GetRecords"]
    await source.fetch(shard, end, 10**8)
    before = asked[-1]["Limit"]
    for _ in range(8):
        server.faults["GetRecords"].append(refused("ProvisionedThroughputExceededException"))
        with pytest.raises(ThrottledError):
            await source.fetch(shard, end, 10**8)
    await source.fetch(shard, end, 10**8)
    after = asked[-1]["Limit"]
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert after < before / 100


async def test_k12_real_limits_let_a_backlog_through_with_few_refusals(
    server: KinesisServer, clients: AwsClients
) -> None:
    await make(clients)
    wanted = [b"%d" % number + b"x" * 9000 for number in range(600)]
    await put(clients, *wanted)
    source, shard = await opened(clients)
    server.settings.limits = True
    found: list[bytes] = []
    after, refusals = HORIZON, 0
    while len(found) < len(wanted):
        try:
            chunk = await source.fetch(shard, after, 2 * 2**20)
        except ThrottledError:
            refusals += 1
        else:
            found += chunk.records
            after = chunk.end
        await asyncio.sleep(0.25)
    assert found == wanted
    assert refusals <= 12


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("KMSAccessDeniedException", RetryableError),
        ("KMSThrottlingException", RetryableError),
        ("ExpiredTokenException", RetryableError),
        ("InternalFailure", RetryableError),
        ("AccessDeniedException", CredentialsError),
    ],
)
async def test_k15_a_refused_read_moves_nothing(
    server: KinesisServer, clients: AwsClients, fault: str, kind: type[Exception]
) -> None:
    await make(clients)
    await put(clients, b"a")
    source, shard = await opened(clients)
    server.faults["GetRecords"].append(refused(fault))
    with pytest.raises(kind, match=f"reading shard {shard.id} of {STREAM}"):
        await source.fetch(shard, HORIZON, WANT_BYTES)
    assert data_of(await read_on(source, shard, HORIZON)) == [b"a"]


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b'{"Records":[{"Data":"*","SequenceNumber":"1"}]}'])
async def test_a_body_that_is_no_answer_is_retried_and_moves_nothing(
    server: KinesisServer, clients: AwsClients, body: bytes
) -> None:
    await make(clients)
    await put(clients, b"a")
    source, shard = await opened(clients)
    server.faults["GetRecords"].append(body)
    with pytest.raises(RetryableError):
        await source.fetch(shard, HORIZON, WANT_BYTES)
    assert data_of(await read_on(source, shard, HORIZON)) == [b"a"]


async def test_a_dropped_connection_is_retried_and_moves_nothing(server: KinesisServer, clients: AwsClients) -> None:
    await make(clients)
    await put(clients, b"a")
    source, shard = await opened(clients)
    server.faults["GetRecords"].append("drop")
    with pytest.raises(RetryableError):
        await source.fetch(shard, HORIZON, WANT_BYTES)
    assert data_of(await read_on(source, shard, HORIZON)) == [b"a"]


async def test_a_cancelled_fetch_leaves_the_shard_readable(server: KinesisServer, clients: AwsClients) -> None:
    await make(clients)
    await put(clients, b"a", b"b")
    source, shard = await opened(clients)
    first = await source.fetch(shard, HORIZON, 1)
    for operation in ("GetRecords", "GetShardIterator"):
        if operation == "GetShardIterator":
            source.forget(shard)
        server.faults[operation].append(0.2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await source.fetch(shard, first.end, WANT_BYTES)
    assert data_of(await read_on(source, shard, first.end)) == [b"b"]


async def test_50_concurrent_reads_never_mix_up_their_answers(server: KinesisServer, clients: AwsClients) -> None:
    await make(clients, shards=50)
    source = await open_stream(clients, STREAM)
    shards = await listed(source)
    width = 2**128 // 50
    for index in range(50):
        entries = [
            {"Data": b"%d %d" % (index, n), "PartitionKey": "k", "ExplicitHashKey": str(index * width + 1)}
            for n in range(20)
        ]
        await clients.kinesis.put_records(StreamName=STREAM, Records=entries)
    server.faults["GetRecords"].extend([0.03, 0.0, 0.01, None, refused("InternalFailure")] * 40)

    async def read(index: int, shard: Shard) -> None:
        found: list[bytes] = []
        after = HORIZON
        while len(found) < 20:
            try:
                chunk = await source.fetch(shard, after, 3 * 1024)
            except RetryableError:
                continue
            assert chunk.shard == shard
            found += chunk.records
            after = chunk.end
        assert found == [b"%d %d" % (index, n) for n in range(20)]

    async with asyncio.TaskGroup() as group:
        for index, shard in enumerate(shards):
            group.create_task(read(index, shard))


async def test_a_position_of_another_kind_of_source_is_fatal(clients: AwsClients) -> None:
    await make(clients)
    source, shard = await opened(clients)
    with pytest.raises(FatalError, match="is not a position"):
        await source.fetch(shard, Position("line 7"), WANT_BYTES)


# Reading records again


async def test_records_are_read_again_by_their_positions_beside_the_reading_that_goes_on(clients: AwsClients) -> None:
    await make(clients)
    await put(clients, *(b"%d" % number for number in range(40)))
    source, shard = await opened(clients)
    chunks = await read_on(source, shard, HORIZON)
    positions = [position for chunk in chunks for position in chunk.positions]
    wanted = [positions[number] for number in (0, 1, 2, 15, 39)]
    found = [pair async for pair in source.reread(shard, wanted)]
    assert found == list(zip(wanted, (b"0", b"1", b"2", b"15", b"39"), strict=True))
    await put(clients, b"next")
    assert data_of(await read_on(source, shard, chunks[-1].end)) == [b"next"]


async def test_a_record_that_has_expired_is_left_out(server: KinesisServer, clients: AwsClients) -> None:
    await make(clients)
    await put(clients, b"old")
    await asyncio.sleep(0.01)
    between = time.time()
    await put(clients, b"young")
    source, shard = await opened(clients)
    old, young = (await source.fetch(shard, HORIZON, WANT_BYTES)).positions
    (stream,) = server.kinesis.streams.values()
    stream.shards[shard.id].trim(between)
    assert [pair async for pair in source.reread(shard, [old])] == []
    assert [pair async for pair in source.reread(shard, [old, young])] == [(young, b"young")]
    with pytest.raises(PositionLostError):
        [pair async for pair in source.reread(Shard(shard.source, ShardId("shardId-000000000099")), [old])]


async def test_k9_empty_answers_do_not_hide_a_record_that_is_read_again(
    server: KinesisServer, clients: AwsClients
) -> None:
    await make(clients)
    await put(clients, b"here")
    source, shard = await opened(clients)
    (position,) = (await source.fetch(shard, HORIZON, WANT_BYTES)).positions
    server.faults["GetRecords"].extend(["empty"] * 5)
    assert [pair async for pair in source.reread(shard, [position])] == [(position, b"here")]
