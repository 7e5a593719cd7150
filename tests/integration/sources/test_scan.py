"""The contract of a source, for the segments of a scan: the local AWS, real HTTP, faults, throttling."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import random
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from dyncdc.decode.decoder import SnapshotDecoder, StreamDecoder
from dyncdc.decode.table_plan import TablePlan, compile_table
from dyncdc.emulator.aws.server.settings import Settings
from dyncdc.errors import ConfigError, CorruptSnapshotError, FatalError, RetryableError
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.model.snapshots import Export
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.sources.aws_errors import CredentialsError, ThrottledError
from dyncdc.sources.clients import AwsClients, open_clients
from dyncdc.sources.export.origin import ExportOrigin
from dyncdc.sources.item_json import sdk_key
from dyncdc.sources.scan.origin import ScanOrigin
from dyncdc.sources.scan.segments import END, ScanSource

from .conftest import REGION, WANT_BYTES, make_table, read_on

ITEMS = 300
SOURCE = SourceId("the snapshot's id")


def item(number: int, width: int = 60) -> dict[str, dict[str, Any]]:
    """An item with a binary key, in DynamoDB's own JSON."""
    return {
        "pk": {"B": ["AAE=", "/w==", "gIGC"][number % 3]},
        "n": {"N": f"{number}.5"},
        "x": {"S": "ä" * (width // 2)},
    }


def number_of(line: bytes) -> int:
    return int(json.loads(line)["Item"]["n"]["N"].removesuffix(".5"))


@dataclass
class Bench:
    """A table of one's own with ``ITEMS`` items, and the switches of the local AWS."""

    clients: AwsClients
    table: str
    url: str
    http: aiohttp.ClientSession

    def origin(self, **changes: Any) -> ScanOrigin:
        stream = f"arn:aws:kinesis:{REGION}:000000000000:stream/{self.table}"
        known = {"stream_arn": stream, "segments": 3, "read_capacity_units": 100_000.0, **changes}
        return ScanOrigin(self.clients, known.pop("table", self.table), **known)

    async def source(self, **changes: Any) -> ScanSource:
        origin = self.origin(**changes)
        return await origin.open_export(await origin.request_export("t"), SOURCE)

    async def put(self, items: Sequence[dict[str, dict[str, Any]]]) -> None:
        for first in range(0, len(items), 25):
            puts = [{"PutRequest": {"Item": sdk_key(one)}} for one in items[first : first + 25]]
            await self.clients.dynamodb.batch_write_item(RequestItems={self.table: puts})

    async def control(self, path: str, document: dict[str, Any]) -> None:
        async with self.http.post(f"{self.url}/_dyncdc/{path}", json=document) as answer:
            assert answer.status == 200, await answer.text()

    async def inject(self, *faults: Any, **rules: Any) -> None:
        await self.control(
            "faults", {"operation": "Scan", "faults": list(faults), "contains": "TotalSegments", **rules}
        )


@pytest.fixture
async def bench(aws: AwsClients, aws_url: str) -> AsyncIterator[Bench]:
    async with aiohttp.ClientSession() as session:
        made = await make_bench(aws, aws_url, session)
        await made.put([item(number) for number in range(ITEMS)])
        yield made
        await made.control("settings", Settings().as_dict())
        async with session.delete(f"{aws_url}/_dyncdc/faults") as answer:
            assert answer.status == 200


async def make_bench(aws: AwsClients, url: str, session: aiohttp.ClientSession) -> Bench:
    return Bench(aws, await make_table(aws, sorted_by="n"), url, session)


async def segments_of(source: ScanSource) -> list[Shard]:
    return [shard async for page in source.list_shards() for shard in page]


def numbers(chunks: Sequence[RawChunk]) -> list[int]:
    return [number_of(record) for chunk in chunks for record in chunk.records]


async def read_all(source: ScanSource) -> list[int]:
    """Numbers of all items, all segments at once."""
    found = await asyncio.gather(*(read_on(source, shard) for shard in await segments_of(source)))
    return sorted(number for chunks in found for number in numbers(chunks))


@pytest.mark.parametrize("segments", [1, 3, 64])
async def test_the_segments_hold_every_item_once(bench: Bench, segments: int) -> None:
    source = await bench.source(segments=segments)
    shards = await segments_of(source)
    assert (len(shards), len({shard.id for shard in shards})) == (segments, segments)
    assert {shard.source for shard in shards} == {SOURCE}
    assert await read_all(source) == list(range(ITEMS))
    assert (source.id, source.label, source.retention_seconds) == (SOURCE, bench.table, None)


async def test_an_empty_table_ends_at_once(aws: AwsClients, aws_url: str) -> None:
    async with aiohttp.ClientSession() as session:
        bench = await make_bench(aws, aws_url, session)
        origin = bench.origin()
        await origin.validate()
        assert await read_all(await origin.open_export(await origin.request_export("t"), SOURCE)) == []


async def test_s8_a_scan_goes_on_behind_any_page(bench: Bench) -> None:
    source = await bench.source(segments=1)
    (shard,) = await segments_of(source)
    chunks = await read_on(source, shard, want_bytes=3000)
    assert len(chunks) > 10
    for number, chunk in enumerate(chunks):
        other = await bench.source(segments=1)
        rest = await read_on(other, shard, chunk.end, want_bytes=50_000)
        assert numbers(rest) == numbers(chunks[number + 1 :])


async def test_the_end_can_be_asked_for_again(bench: Bench) -> None:
    source = await bench.source(segments=1)
    (shard,) = await segments_of(source)
    last = (await read_on(source, shard))[-1]
    again = await source.fetch(shard, last.end, WANT_BYTES)
    assert (last.end, list(again.records), again.end, again.closed, again.at_tip) == (END, [], END, True, True)


async def test_a_position_is_the_last_key_and_a_record_is_known_by_its_content(bench: Bench) -> None:
    source = await bench.source(segments=1)
    (shard,) = await segments_of(source)
    small, large = [await read_on(source, shard, want_bytes=size) for size in (1000, 100_000)]
    places = [dict(zip(map(number_of, c.records), c.positions, strict=True)) for run in (small, large) for c in run]
    first, second = ({n: p for page in pages for n, p in page.items()} for pages in (places[: len(small)], places))
    assert first == second, "however the pages fall"
    assert len(set(second.values())) == ITEMS
    page = next(chunk for chunk in small if chunk.records)
    found = json.loads(page.records[-1])["Item"]
    assert json.loads(page.end) == {"pk": found["pk"], "n": found["n"]}


async def test_s12_empty_pages_with_a_key_are_passed(bench: Bench) -> None:
    await bench.inject({"empty": True}, probability=0.5, seed=3)
    source = await bench.source()
    shards = await segments_of(source)
    found = [await read_on(source, shard, want_bytes=3000) for shard in shards]
    empty = [chunk for chunks in found for chunk in chunks if not chunk.records and not chunk.closed]
    assert len(empty) > 5
    assert len({chunk.end for chunk in empty}) == len(empty)
    assert sorted(number for chunks in found for number in numbers(chunks)) == list(range(ITEMS))


async def test_s12_an_empty_first_page_is_resumed_from(bench: Bench) -> None:
    await bench.inject({"empty": True}, {"empty": True})
    source = await bench.source(segments=1)
    (shard,) = await segments_of(source)
    first = await source.fetch(shard, HORIZON, WANT_BYTES)
    second = await source.fetch(shard, first.end, WANT_BYTES)
    assert [list(chunk.records) for chunk in (first, second)] == [[], []]
    rest = await read_on(await bench.source(segments=1), shard, second.end)
    assert sorted(numbers(rest)) == list(range(ITEMS))


async def test_s12_the_number_of_segments_is_that_of_the_begin(bench: Bench) -> None:
    begun = await bench.origin(segments=4).request_export("t")
    assert begun.segments == 4
    source = await bench.origin(segments=4).open_export(begun, SOURCE)
    shards = await segments_of(source)
    half = {shard: await source.fetch(shard, HORIZON, 2000) for shard in shards}
    found = [number for chunk in half.values() for number in numbers([chunk])]

    restarted = await bench.origin(segments=9).open_export(begun, SOURCE)
    assert await segments_of(restarted) == shards
    for shard in shards:
        found += numbers(await read_on(restarted, shard, half[shard].end))
    assert sorted(found) == list(range(ITEMS)), "each item exactly once"
    assert (await bench.origin(segments=9).describe_export(begun.arn)).arn == begun.arn


async def test_s12_throttling_slows_down_and_loses_nothing(bench: Bench) -> None:
    throttled = {"error": "ProvisionedThroughputExceededException"}
    await bench.inject(throttled, throttled, {"error": "ThrottlingException"}, None, {"error": "ThrottlingException"})
    source = await bench.source(segments=1, read_capacity_units=1000.0)
    (shard,) = await segments_of(source)
    with pytest.raises(ThrottledError, match=f"scanning table {bench.table}"):
        await source.fetch(shard, HORIZON, WANT_BYTES)
    assert sorted(numbers(await read_on(source, shard))) == list(range(ITEMS))


async def test_s12_random_trouble_changes_nothing(bench: Bench) -> None:
    trouble = ["drop", {"cut": 700}, {"empty": True}, {"error": "InternalServerError", "status": 500}]
    await bench.inject(*trouble, {"error": "ProvisionedThroughputExceededException"}, probability=0.3, seed=11)
    assert await read_all(await bench.source()) == list(range(ITEMS))


async def test_a_page_that_leads_nowhere_is_no_progress(bench: Bench) -> None:
    """Should DynamoDB ever answer with the key it was asked for, the task shows as stuck instead of spinning."""
    source = await bench.source(segments=1)
    (shard,) = await segments_of(source)
    first = await source.fetch(shard, HORIZON, 2000)

    def stand_still(parsed: dict[str, Any], **_: object) -> None:
        parsed["LastEvaluatedKey"] = sdk_key(json.loads(first.end))

    bench.clients.dynamodb.meta.events.register("after-call.dynamodb.Scan", stand_still)
    with pytest.raises(RetryableError, match="was to begin behind"):
        await source.fetch(shard, first.end, 2000)


async def test_the_budget_is_kept_by_all_segments_together(bench: Bench) -> None:
    """Slower is always allowed, so a busy machine cannot make this fail."""
    rate = 60.0
    await bench.put([item(number, width=12_000) for number in range(ITEMS // 3)])  # 100 items of 1.5 units
    consumed: list[float] = []

    def count(parsed: dict[str, Any], **_: object) -> None:
        consumed.append(parsed["ConsumedCapacity"]["CapacityUnits"])

    source = await bench.source(segments=4, read_capacity_units=rate)
    bench.clients.dynamodb.meta.events.register("after-call.dynamodb.Scan", count)
    begun = time.monotonic()
    assert await read_all(source) == list(range(ITEMS))
    elapsed = time.monotonic() - begun
    assert sum(consumed) > 120
    assert sum(consumed) <= rate * (elapsed + 1.0) + 4.0, f"{sum(consumed)} units in {elapsed:.2f} s"


async def test_a_budget_smaller_than_an_item_gets_through(bench: Bench) -> None:
    await bench.put([item(0, width=24_000)])  # 3 units
    source = await bench.source(segments=2, read_capacity_units=2.0)
    shards = await segments_of(source)
    chunks = [await source.fetch(shard, HORIZON, WANT_BYTES) for shard in shards]
    assert all(chunk.records for chunk in chunks)


async def test_a_cancelled_fetch_leaves_the_segment_readable(bench: Bench) -> None:
    source = await bench.source(segments=1)
    (shard,) = await segments_of(source)
    first = await source.fetch(shard, HORIZON, 2000)
    await bench.inject({"sleep": 5.0})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await source.fetch(shard, first.end, 2000)
    assert sorted(numbers([first]) + numbers(await read_on(source, shard, first.end))) == list(range(ITEMS))


async def test_no_error_repeats_a_key(bench: Bench) -> None:
    source = await bench.source(segments=1)
    (shard,) = await segments_of(source)
    secret = Position('{"pk":{"B":"U0VDUkVU"},"n":{"N":"777"}}')
    hurt = ["drop", {"error": "ValidationException", "message": "key SECRET 777"}, {"error": "Odd", "message": "777"}]
    seen: list[str] = []
    for position in (secret, Position('{"pk":{"S":1},"SECRET":777}'), Position("SECRET777"), Position("{}")):
        for fault in hurt:
            await bench.inject(fault, fault)
            try:
                await source.fetch(shard, position, WANT_BYTES)
            except (RetryableError, FatalError) as error:
                seen.append(f"{error} {error.hint}")
    assert len(seen) == 12
    assert not [text for text in seen if "SECRET" in text or "777" in text or "U0VD" in text]


@pytest.mark.parametrize("position", ["SECRET", "{}", '{"pk":{"S":1}}', '{"pk":{"B":"AA=="},"n":{}}', '{"n":{"L":[]}}'])
async def test_a_position_that_is_no_key_is_fatal(bench: Bench, position: str) -> None:
    source = await bench.source(segments=1)
    with pytest.raises(FatalError, match="the position is not a key"):
        await source.fetch(Shard(SOURCE, ShardId("segment-0")), Position(position), WANT_BYTES)
    with pytest.raises(FatalError, match="the scan has no segment-1"):
        await source.fetch(Shard(SOURCE, ShardId("segment-1")), HORIZON, WANT_BYTES)


async def test_the_origin_validates_the_table_and_the_permission(bench: Bench) -> None:
    await bench.origin().validate()
    for call in (bench.origin(table="nope").validate(), bench.origin(table="nope").request_export("t")):
        with pytest.raises(ConfigError, match="describing table nope"):
            await call
    denied = {"error": "AccessDeniedException", "message": "no dynamodb:Scan"}
    await bench.control("faults", {"operation": "Scan", "faults": [denied], "contains": bench.table})
    with pytest.raises(CredentialsError, match="dynamodb:Scan"):
        await bench.origin().validate()


async def test_a_table_made_again_is_not_taken_for_the_old_one(bench: Bench) -> None:
    begun = await bench.origin().request_export("t")
    await bench.clients.dynamodb.delete_table(TableName=bench.table)
    await bench.clients.dynamodb.create_table(
        TableName=bench.table,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    with pytest.raises(CorruptSnapshotError, match="deleted and recreated"):
        await bench.origin().open_export(begun, SOURCE)


async def test_a_snapshot_begun_the_other_way_is_a_config_error(bench: Bench) -> None:
    arn = f"arn:aws:dynamodb:{REGION}:000000000000:table/{bench.table}/export/01-abc"
    export = Export(arn, "COMPLETED", 1.0)
    with pytest.raises(ConfigError) as caught:
        await bench.origin().open_export(export, SOURCE)
    assert 'method = "export"' in caught.value.hint
    begun = await bench.origin().request_export("t")
    exports = ExportOrigin(bench.clients, bench.table, stream_arn="s", bucket="b")
    with pytest.raises(ConfigError) as caught:
        await exports.open_export(begun, SOURCE)
    assert 'method = "scan"' in caught.value.hint


# -- versions


def plan_of(table: str) -> TablePlan:
    columns = [
        ColumnSpec("pk", "String", ("pk",), ("B",), key=True),
        ColumnSpec("n", "Decimal(38, 1)", ("n",), ("N",), key=True),
    ]
    keys = (KeyAttribute("pk", "B"), KeyAttribute("n", "N"))
    return compile_table(TableSpec(table, "d", keys, tuple(columns)))


def change(table: str, number: int, at: float, name: str = "MODIFY") -> RawChunk:
    """A change record of an item, created at that time, as a stream gives it."""
    one = item(number)
    image = {} if name == "REMOVE" else {"NewImage": one}
    record = {
        "eventName": name,
        "tableName": table,
        "dynamodb": {
            "ApproximateCreationDateTime": int(at * 1_000_000),
            "ApproximateCreationDateTimePrecision": "MICROSECOND",
            "Keys": {key: one[key] for key in ("pk", "n")},
            **image,
        },
    }
    raw = json.dumps(record).encode()
    return RawChunk(Shard(SourceId("s"), ShardId("0")), [raw], [Position("1")], Position("1"), len(raw), at)


def versions(decoder: SnapshotDecoder | StreamDecoder, chunk: RawChunk) -> set[int]:
    return {version for made in decoder.decode(chunk) for block in made.blocks for version in block.versions}


def snapshot_version(export: Export, margin_seconds: float) -> int:
    """As the loader makes it."""
    return int((export.export_time - margin_seconds) * 1_000_000)


async def test_s11_a_change_wins_over_a_page_that_does_not_show_it_yet(bench: Bench) -> None:
    """Read before the change, used by a scan that begins after it: what an eventually consistent page may be."""
    source = await bench.source(segments=1)
    (shard,) = await segments_of(source)
    stale = (await read_on(source, shard, want_bytes=10**6))[0]
    changed_at = time.time()
    export = await bench.origin().request_export("t")
    plan = plan_of(bench.table)
    (of_page,) = versions(SnapshotDecoder(plan, snapshot_version(export, 60.0), pipeline="p"), stale)
    for name in ("MODIFY", "REMOVE"):
        event = change(bench.table, 1, changed_at, name)
        (of_change,) = versions(StreamDecoder({bench.table: plan}, pipeline="p"), event)
        assert of_change > of_page


async def test_s10_the_time_of_a_scan_is_not_after_any_page(bench: Bench) -> None:
    dates: list[float] = []

    def note(parsed: dict[str, Any], **_: object) -> None:
        dates.append(parsedate_to_datetime(parsed["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp())

    bench.clients.dynamodb.meta.events.register("after-call.dynamodb.Scan", note)
    export = await bench.origin().request_export("t")
    assert not dates, "no page has been read"
    await read_all(await bench.origin().open_export(export, SOURCE))
    assert dates
    assert export.export_time <= min(dates)


SKEWED = """
import sys, time
real, skew = time.time, float(sys.argv.pop(1))
time.time = lambda: real() + skew
from dyncdc.emulator.aws.server.process import main
main()
"""


@pytest.mark.parametrize("skew_seconds", [300.0, -300.0])
async def test_s10_versions_follow_the_clock_of_dynamodb_not_ours(skew_seconds: float) -> None:
    """Ours is five minutes wrong: seen from here, DynamoDB's is."""
    command = [sys.executable, "-c", SKEWED, str(skew_seconds), "--port", "0", "--until-stdin-closes"]
    child = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    url = (await child.stdout.readline()).decode().rpartition(" ")[2].strip()
    try:
        async with open_clients(REGION, endpoint_url=url) as clients, aiohttp.ClientSession() as session:
            bench = await make_bench(clients, url, session)
            export = await bench.origin().request_export("t")
    finally:
        child.terminate()
        await child.wait()
    assert math.isclose(export.export_time - time.time(), skew_seconds, abs_tol=30)


async def test_without_a_date_nothing_is_guessed(bench: Bench) -> None:
    def remove(parsed: dict[str, Any], **_: object) -> None:
        del parsed["ResponseMetadata"]["HTTPHeaders"]["date"]

    bench.clients.dynamodb.meta.events.register("after-call.dynamodb.DescribeTable", remove)
    with pytest.raises(RetryableError, match="no usable Date header"):
        await bench.origin().request_export("t")


async def test_a_table_is_covered_once_its_destination_is_active(bench: Bench) -> None:
    assert await bench.origin().covered_at() is None
    await bench.clients.kinesis.create_stream(StreamName=bench.table, ShardCount=1)
    found = await bench.clients.kinesis.describe_stream_summary(StreamName=bench.table)
    arn = found["StreamDescriptionSummary"]["StreamARN"]
    await bench.clients.dynamodb.enable_kinesis_streaming_destination(TableName=bench.table, StreamArn=arn)
    await asyncio.sleep(0.1)
    assert abs(await bench.origin(stream_arn=arn).covered_at() or 0.0) > 0.0
    assert await bench.origin(stream_arn=arn + "-other").covered_at() is None


# -- a line of a scan is a line of an export


def odd_items(seed: int) -> list[dict[str, dict[str, Any]]]:
    """Items with every type, and the values that a careless way would change."""
    chance = random.Random(seed)
    found = []
    for number in range(40):
        one = item(number)
        one |= {
            "digits": {
                "N": chance.choice(["12345678901234567890123456789012345678", "1E-130", "9.99E+125", "-0", "1.50"])
            },
            "bytes": {"B": chance.choice(["", "AA==", "/+8=", "aGVsbG8="])},
            "text": {"S": chance.choice(["", 'ä\u2028\u0000"\\/', "\U0001f600", "</script>", "\x7f"])},
            "sets": {"L": [{"SS": ["b", "a"]}, {"NS": ["10", "9", "1.0"]}, {"BS": ["/w==", "AA=="]}]},
            "deep": {"M": {"": {"M": {"a.b": {"L": [{"NULL": True}, {"BOOL": False}, {"L": []}, {"M": {}}]}}}}},
        }
        found.append({name: one[name] for name in chance.sample(sorted(one), len(one))})
    return found


def stored(item: dict[str, Any]) -> dict[str, Any]:
    """For the SDK: binary as bytes, all the way down."""

    def walk(value: Any) -> Any:
        ((tag, content),) = value.items()
        if tag == "B":
            return {tag: base64.b64decode(content)}
        if tag == "BS":
            return {tag: [base64.b64decode(one) for one in content]}
        if tag == "L":
            return {tag: [walk(one) for one in content]}
        if tag == "M":
            return {tag: {name: walk(one) for name, one in content.items()}}
        return value

    return {name: walk(value) for name, value in item.items()}


@pytest.mark.parametrize("seed", range(3))
async def test_a_line_of_a_scan_says_what_a_line_of_an_export_says(bench: Bench, seed: int) -> None:
    for one in odd_items(seed):
        await bench.clients.dynamodb.put_item(TableName=bench.table, Item=stored(one))
    await bench.control("settings", {"export_delay_seconds": 0.0})
    await bench.clients.dynamodb.update_continuous_backups(
        TableName=bench.table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    await bench.clients.s3.create_bucket(Bucket=bench.table, CreateBucketConfiguration={"LocationConstraint": REGION})
    exports = ExportOrigin(bench.clients, bench.table, stream_arn="s", bucket=bench.table)
    export = await exports.request_export(str(uuid.uuid4()))
    while export.status == "IN_PROGRESS":
        await asyncio.sleep(0.02)
        export = await exports.describe_export(export.arn)
    wanted: list[bytes] = []
    files = await exports.open_export(export, SOURCE)
    async for page in files.list_shards():
        for shard in page:
            after, closed = HORIZON, False
            while not closed:
                chunk = await files.fetch(shard, after, 10**6)
                wanted, after, closed = wanted + list(chunk.records), chunk.end, chunk.closed
    await files.close()
    source = await bench.source(segments=2)
    found = [record for s in await segments_of(source) for c in await read_on(source, s) for record in c.records]
    assert sorted(found) == sorted(wanted)
    decoder = SnapshotDecoder(plan_of(bench.table), 7, pipeline="p")
    base = RawChunk(Shard(SOURCE, ShardId("x")), [], [], END, 0, 0.0)
    rows = [
        [
            decoded.blocks
            for decoded in decoder.decode(replace(base, records=sorted(lines), positions=[END] * len(lines)))
        ]
        for lines in (found, wanted)
    ]
    assert rows[0] == rows[1]


async def test_items_are_read_again_beside_the_scan_by_their_positions(bench: Bench) -> None:
    source = await bench.source(segments=2)
    read: dict[Shard, list[tuple[Position, bytes]]] = {}
    for shard in await segments_of(source):
        chunks = await read_on(source, shard, want_bytes=WANT_BYTES)
        read[shard] = [pair for chunk in chunks for pair in zip(chunk.positions, chunk.records, strict=True)]
        source.forget(shard)  # its last rows may still be on their way
    for shard, pairs in read.items():
        some = pairs[:: len(pairs) // 7]
        gone = Position("0" * 24)
        wanted = [position for position, _ in some]
        assert [found async for found in source.reread(shard, [*wanted, gone])] == some
    (shard, pairs), *_ = read.items()
    changed = json.loads(pairs[0][1])["Item"]
    await bench.put([changed | {"x": {"S": "another one"}}])
    assert [found async for found in source.reread(shard, [pairs[0][0]])] == [], "it is not what was read"
