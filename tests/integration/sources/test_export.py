"""The contract of a snapshot's origin: asking for an export, following it, opening what it wrote."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from dyncdc.errors import ConfigError, CorruptSnapshotError
from dyncdc.model.shards import Position
from dyncdc.model.snapshots import Export
from dyncdc.sources.clients import AwsClients
from dyncdc.sources.export import manifest
from dyncdc.sources.export.data_files import ExportSource
from dyncdc.sources.export.origin import ExportOrigin

from .conftest import REGION

ITEMS = 40


@dataclass
class Bench:
    """A table with point-in-time recovery, a bucket and a stream of one's own."""

    clients: AwsClients
    table: str
    bucket: str
    stream_arn: str

    def origin(self, **changes: Any) -> ExportOrigin:
        known = {"stream_arn": self.stream_arn, "bucket": self.bucket, "prefix": "dyncdc/", **changes}
        return ExportOrigin(self.clients, known.pop("table", self.table), **known)

    async def exported(self, origin: ExportOrigin, token: str = "") -> Export:
        """Ask for an export and wait for its end."""
        export = await origin.request_export(token or str(uuid.uuid4()))
        while export.status == "IN_PROGRESS":
            await asyncio.sleep(0.02)
            export = await origin.describe_export(export.arn)
        return export

    async def asked_for(self, **request: Any) -> str:
        """Ask for an export as a newer SDK would, wait for its end, and return its ARN."""
        arn = (await self.clients.dynamodb.describe_table(TableName=self.table))["Table"]["TableArn"]
        made = await self._call("ExportTableToPointInTime", {"TableArn": arn, "S3Bucket": self.bucket, **request})
        while made["ExportDescription"]["ExportStatus"] == "IN_PROGRESS":
            await asyncio.sleep(0.02)
            made = await self._call("DescribeExport", {"ExportArn": made["ExportDescription"]["ExportArn"]})
        assert made["ExportDescription"]["ExportStatus"] == "COMPLETED"
        return str(made["ExportDescription"]["ExportArn"])

    async def _call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        signature = f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/dynamodb/aws4_request"
        headers = {"X-Amz-Target": f"DynamoDB_20120810.{operation}", "Authorization": signature}
        url = self.clients.dynamodb.meta.endpoint_url
        async with aiohttp.ClientSession() as session, session.post(url, json=request, headers=headers) as answer:
            found: dict[str, Any] = json.loads(await answer.read())
            assert answer.status == 200, found
            return found

    async def keys(self, export: Export) -> dict[str, str]:
        """The objects of an export, by the end of their name."""
        prefix = f"dyncdc/AWSDynamoDB/{export.arn.rpartition('/')[2]}/"
        found = await self.clients.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return {one["Key"].removeprefix(prefix): one["Key"] for one in found["Contents"]}

    async def replace(self, key: str, body: bytes) -> None:
        await self.clients.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    async def read(self, key: str) -> bytes:
        body: bytes = await (await self.clients.s3.get_object(Bucket=self.bucket, Key=key))["Body"].read()
        return body


@pytest.fixture
async def bench(aws: AwsClients, aws_url: str) -> Bench:
    name = f"t-{uuid.uuid4().hex[:12]}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{aws_url}/_dyncdc/settings", json={"export_delay_seconds": 0.0}) as answer,
    ):
        assert answer.status == 200
    await aws.dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    await aws.dynamodb.update_continuous_backups(
        TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    for first in range(0, ITEMS, 20):
        puts = [{"PutRequest": {"Item": {"id": {"S": str(n)}, "x": {"N": str(n)}}}} for n in range(first, first + 20)]
        await aws.dynamodb.batch_write_item(RequestItems={name: puts})
    await aws.s3.create_bucket(Bucket=f"b-{name}", CreateBucketConfiguration={"LocationConstraint": REGION})
    await aws.kinesis.create_stream(StreamName=name, ShardCount=1)
    return Bench(aws, name, f"b-{name}", f"arn:aws:kinesis:{REGION}:000000000000:stream/{name}")


async def items_of(source: ExportSource) -> list[str]:
    """The ids of all items of all files."""
    found: list[str] = []
    async for page in source.list_shards():
        for shard in page:
            position, closed = source.start_position(shard), False
            while not closed:
                chunk = await source.fetch(shard, position, 10_000)
                found += [json.loads(record)["Item"]["id"]["S"] for record in chunk.records]
                position, closed = chunk.end, chunk.closed
    return found


async def test_an_export_holds_every_item_once(bench: Bench) -> None:
    origin = bench.origin()
    await origin.validate()
    begun = time.time()
    export = await bench.exported(origin)
    assert (export.status, export.item_count, export.failure) == ("COMPLETED", ITEMS, "")
    assert begun - 1 <= export.export_time <= time.time() + 1
    source = await origin.open_export(export)
    assert (source.id, source.label, source.item_count) == (export.arn, bench.table, ITEMS)
    assert (source.retention_seconds, source.pause_seconds) == (None, 0.0)
    assert sorted(await items_of(source), key=int) == [str(n) for n in range(ITEMS)]
    await source.close()


@pytest.mark.parametrize("prefix", ["", "a b/ü+%/", "deep/er/"])
async def test_s13_an_export_is_found_under_any_prefix(bench: Bench, prefix: str) -> None:
    origin = bench.origin(prefix=prefix)
    assert len(await items_of(await origin.open_export(await bench.exported(origin)))) == ITEMS


async def test_s13_a_given_export_is_read_from_its_own_bucket(bench: Bench) -> None:
    export = await bench.exported(bench.origin())
    given = bench.origin(bucket="", prefix="", export_arn=export.arn)
    await given.validate()
    assert await given.request_export("any") == export
    assert len(await items_of(await given.open_export(export))) == ITEMS


async def test_an_export_into_a_bucket_of_another_account_under_its_key_says_so(bench: Bench) -> None:
    owner, key = "000000000000", f"arn:aws:kms:{REGION}:000000000000:key/1-2"
    origin = bench.origin(bucket_owner=owner, kms_key=key)
    await origin.validate()
    export = await bench.exported(origin)
    told = (await bench.clients.dynamodb.describe_export(ExportArn=export.arn))["ExportDescription"]
    assert (told["S3BucketOwner"], told["S3SseAlgorithm"], told["S3SseKmsKeyId"]) == (owner, "KMS", key)
    assert len(await items_of(await origin.open_export(export))) == ITEMS


async def test_the_same_token_never_starts_a_second_export(bench: Bench) -> None:
    origin, token = bench.origin(), str(uuid.uuid4())
    first = await bench.exported(origin, token)
    assert (await origin.request_export(token)).arn == first.arn
    found = await bench.clients.dynamodb.list_exports(TableArn=first.arn.partition("/export/")[0])
    assert len(found["ExportSummaries"]) == 1


async def test_s14_two_exports_under_one_prefix_stay_apart(bench: Bench) -> None:
    origin = bench.origin()
    first = await bench.exported(origin)
    await bench.clients.dynamodb.delete_item(TableName=bench.table, Key={"id": {"S": "0"}})
    second = await bench.exported(origin)
    sources = [await origin.open_export(export) for export in (first, second)]
    assert [len(await items_of(source)) for source in sources] == [ITEMS, ITEMS - 1]


async def test_s7_what_the_manifest_does_not_name_is_not_read(bench: Bench) -> None:
    origin = bench.origin()
    export = await bench.exported(origin)
    keys = await bench.keys(export)
    assert "_started" in keys
    await bench.replace(keys["_started"].replace("_started", "data/extra.json.gz"), b"not an export's")
    assert len(await items_of(await origin.open_export(export))) == ITEMS


@pytest.mark.parametrize("manifest", ["manifest-summary.json", "manifest-files.json"])
@pytest.mark.parametrize("damage", ["changed", "missing", "no checksum", "wrong checksum"])
async def test_s7_a_damaged_manifest_is_named(bench: Bench, manifest: str, damage: str) -> None:
    origin = bench.origin()
    export = await bench.exported(origin)
    key = (await bench.keys(export))[manifest]
    checksum = key.replace(".json", ".md5")
    if damage == "changed":
        await bench.replace(key, (await bench.read(key)).replace(b'"itemCount":', b'"itemCount": '))
    elif damage == "wrong checksum":
        await bench.replace(checksum, b"AAAAAAAAAAAAAAAAAAAAAA==")
    else:
        gone = key if damage == "missing" else checksum
        await bench.clients.s3.delete_object(Bucket=bench.bucket, Key=gone)
    with pytest.raises(CorruptSnapshotError, match=manifest.removesuffix(".json")):
        await origin.open_export(export)


async def test_a_checksum_may_be_named_checksum(bench: Bench) -> None:
    origin = bench.origin()
    export = await bench.exported(origin)
    for name, key in (await bench.keys(export)).items():
        if name.endswith(".md5"):
            await bench.replace(key.replace(".md5", ".checksum"), await bench.read(key))
            await bench.clients.s3.delete_object(Bucket=bench.bucket, Key=key)
    assert len(await items_of(await origin.open_export(export))) == ITEMS


async def test_s7_a_damaged_data_file_is_named_and_the_rest_goes_on(bench: Bench) -> None:
    origin = bench.origin()
    export = await bench.exported(origin)
    source = await origin.open_export(export)
    shards = [shard async for page in source.list_shards() for shard in page]
    body = await bench.read(shards[0].id)
    await bench.replace(shards[0].id, body[: len(body) // 2])
    with pytest.raises(CorruptSnapshotError, match=shards[0].id):
        while True:
            await source.fetch(shards[0], Position("0"), 10**6)
    for shard in shards[1:]:
        assert (await source.fetch(shard, Position("0"), 10**6)).closed


async def test_no_such_table_is_a_config_error(bench: Bench) -> None:
    origin = bench.origin(table="nope")
    for call in (origin.validate(), origin.covered_at(), origin.request_export("token")):
        with pytest.raises(ConfigError, match="nope"):
            await call


async def test_without_point_in_time_recovery_the_command_is_named(bench: Bench) -> None:
    await bench.clients.dynamodb.update_continuous_backups(
        TableName=bench.table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False}
    )
    origin = bench.origin()
    for call in (origin.validate(), origin.request_export("token")):
        with pytest.raises(ConfigError) as caught:
            await call
        assert f"aws dynamodb update-continuous-backups --table-name {bench.table}" in caught.value.hint


async def test_a_missing_bucket_is_a_config_error(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="bucket not-there"):
        await bench.origin(bucket="not-there").validate()


async def test_an_export_into_a_missing_bucket_fails_and_says_why(bench: Bench) -> None:
    export = await bench.exported(bench.origin(bucket="not-there"))
    assert (export.status, "NoSuchBucket" in export.failure) == ("FAILED", True)


async def test_an_unknown_export_is_a_config_error(bench: Bench) -> None:
    origin = bench.origin(export_arn=f"arn:aws:dynamodb:{REGION}:000000000000:table/{bench.table}/export/01-no")
    with pytest.raises(ConfigError):
        await origin.validate()


async def test_an_export_of_another_table_is_a_config_error(bench: Bench) -> None:
    export = await bench.exported(bench.origin())
    await bench.clients.dynamodb.create_table(
        TableName=f"{bench.table}-2",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    with pytest.raises(ConfigError, match="not an export of table"):
        await bench.origin(table=f"{bench.table}-2", export_arn=export.arn).validate()


HALF = {"FilterExpression": "x < :x", "ExpressionAttributeValues": {":x": {"N": "20"}}}
PARTIAL: dict[str, tuple[dict[str, Any], str]] = {
    "filtered": ({"FilterSpecification": HALF}, "filtered export"),
    "projected": ({"FilterSpecification": {"ProjectionExpression": "id"}}, "filtered export"),
    "incremental": (
        {"ExportType": "INCREMENTAL_EXPORT", "IncrementalExportSpecification": {"ExportFromTime": 1.0}},
        "incremental export",
    ),
}


@pytest.mark.parametrize("kind", PARTIAL)
async def test_an_export_that_leaves_anything_out_is_no_snapshot(bench: Bench, kind: str) -> None:
    request, says = PARTIAL[kind]
    arn = await bench.asked_for(**request)
    origin = bench.origin(bucket="", prefix="", export_arn=arn)
    with pytest.raises(ConfigError, match=says):
        await origin.validate()
    with pytest.raises(ConfigError, match=says):
        await origin.request_export("any")


async def test_a_filter_that_only_the_summary_tells_of_is_refused(bench: Bench) -> None:
    """Catches: believing the description alone, which a service that is newer than we are may keep short."""
    arn = await bench.asked_for(FilterSpecification=HALF)
    key = (await bench.clients.dynamodb.describe_export(ExportArn=arn))["ExportDescription"]["ExportManifest"]
    body, checksum = await bench.read(key), await bench.read(key.replace(".json", ".md5"))
    manifest.verify_checksum(key, body, checksum)
    with pytest.raises(ConfigError, match="filtered export"):
        manifest.parse_summary(key, body, arn)


async def test_an_export_with_files_without_bytes_holds_every_item_once(bench: Bench, aws_url: str) -> None:
    async with aiohttp.ClientSession() as session:
        settings = {"export_bare_empty_files": True, "export_files": 4 * ITEMS}
        await session.post(f"{aws_url}/_dyncdc/settings", json=settings)
        try:
            origin = bench.origin()
            export = await bench.exported(origin)
        finally:
            await session.post(
                f"{aws_url}/_dyncdc/settings", json={"export_bare_empty_files": False, "export_files": 0}
            )
    assert sorted(await items_of(await origin.open_export(export)), key=int) == [str(n) for n in range(ITEMS)]


async def test_s3_a_table_is_covered_once_its_destination_on_our_stream_is_active(bench: Bench) -> None:
    origin = bench.origin()
    assert await origin.covered_at() is None
    await bench.clients.dynamodb.enable_kinesis_streaming_destination(TableName=bench.table, StreamArn=bench.stream_arn)
    assert await origin.covered_at() is None  # ENABLING is not ACTIVE
    await asyncio.sleep(0.1)
    at = await origin.covered_at()
    assert at is not None
    assert abs(at - time.time()) < 2
    assert await bench.origin(stream_arn=bench.stream_arn + "-other").covered_at() is None


async def test_s3_a_destination_whose_precision_is_being_switched_still_covers(bench: Bench) -> None:
    arn = bench.stream_arn
    await bench.clients.dynamodb.enable_kinesis_streaming_destination(TableName=bench.table, StreamArn=arn)
    await asyncio.sleep(0.1)
    switched = await bench.clients.dynamodb.update_kinesis_streaming_destination(
        TableName=bench.table,
        StreamArn=arn,
        UpdateKinesisStreamingConfiguration={"ApproximateCreationDateTimePrecision": "MICROSECOND"},
    )
    assert switched["DestinationStatus"] == "UPDATING"
    assert await bench.origin().covered_at() is not None, "or the switch that check asks for would look like a loss"
