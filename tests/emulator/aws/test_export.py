"""Exports: the real layout, one instant, idempotent."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from botocore.exceptions import ClientError
from support.servers.aws_calls import Json, make_table

Switch = Callable[..., Awaitable[None]]


async def exportable(clients: Any, name: str, items: int = 0) -> str:
    """Make a table with items, PITR and a bucket of the same name; return its ARN."""
    arn = await make_table(clients.dynamodb, name)
    await clients.s3.create_bucket(Bucket=name)
    await clients.dynamodb.update_continuous_backups(
        TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    for start in range(0, items, 25):
        puts = [{"PutRequest": {"Item": {"pk": {"S": str(i)}, "n": {"N": "0"}}}} for i in range(start, start + 25)]
        await clients.dynamodb.batch_write_item(RequestItems={name: puts})
    return arn


async def finished(dynamodb: Any, arn: str) -> Json:
    """Wait until an export is no longer under way."""
    while True:
        description: Json = (await dynamodb.describe_export(ExportArn=arn))["ExportDescription"]
        if description["ExportStatus"] != "IN_PROGRESS":
            return description
        await asyncio.sleep(0.01)


async def read(s3: Any, bucket: str, key: str) -> bytes:
    body: bytes = await (await s3.get_object(Bucket=bucket, Key=key))["Body"].read()
    return body


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


async def test_an_export_without_pitr_is_refused(clients: Any, name: str) -> None:
    arn = await make_table(clients.dynamodb, name)
    with pytest.raises(clients.dynamodb.exceptions.PointInTimeRecoveryUnavailableException):
        await clients.dynamodb.export_table_to_point_in_time(TableArn=arn, S3Bucket=name)


@pytest.mark.parametrize("prefix", ["", "dyncdc", "a b/ü/"])
async def test_manifests_name_every_file_with_its_count_and_md5(clients: Any, name: str, prefix: str) -> None:
    arn = await exportable(clients, name, 50)
    request = {"TableArn": arn, "S3Bucket": name, **({"S3Prefix": prefix} if prefix else {})}
    started = (await clients.dynamodb.export_table_to_point_in_time(**request))["ExportDescription"]
    done = await finished(clients.dynamodb, started["ExportArn"])
    assert (done["ExportStatus"], done["ItemCount"]) == ("COMPLETED", 50)
    export_id = started["ExportArn"].rpartition("/")[2]
    base = "/".join(one for one in (prefix.strip("/"), "AWSDynamoDB", export_id) if one)
    assert done["ExportManifest"] == f"{base}/manifest-summary.json"
    summary = orjson.loads(text := await read(clients.s3, name, done["ExportManifest"]))
    assert (await read(clients.s3, name, f"{base}/manifest-summary.md5")).decode() == md5(text)
    assert summary["manifestFilesS3Key"] == f"{base}/manifest-files.json"
    assert (summary["itemCount"], summary["outputFormat"]) == (50, "DYNAMODB_JSON")
    assert summary["exportArn"] == started["ExportArn"]
    assert summary["s3Prefix"] == (prefix or None)
    lines = await read(clients.s3, name, summary["manifestFilesS3Key"])
    assert (await read(clients.s3, name, f"{base}/manifest-files.md5")).decode() == md5(lines)
    assert await read(clients.s3, name, f"{base}/_started") == b""
    keys: list[str] = []
    for line in map(orjson.loads, lines.splitlines()):
        content = await read(clients.s3, name, line["dataFileS3Key"])
        assert line["md5Checksum"] == md5(content)
        items = gzip.decompress(content).splitlines()
        assert line["itemCount"] == len(items)
        assert line["dataFileS3Key"].startswith(f"{base}/data/")
        keys += [orjson.loads(item)["Item"]["pk"]["S"] for item in items]
    assert sorted(map(int, keys)) == list(range(50))
    assert len(lines.splitlines()) >= 4


async def test_an_export_is_one_instant_whatever_is_written_meanwhile(
    clients: Any, name: str, settings: Switch
) -> None:
    arn = await exportable(clients, name, 200)
    await settings(export_files=20, export_delay_seconds=0.3)
    started = (await clients.dynamodb.export_table_to_point_in_time(TableArn=arn, S3Bucket=name))["ExportDescription"]
    for i in range(0, 200, 25):
        puts = [{"PutRequest": {"Item": {"pk": {"S": str(i + j)}, "n": {"N": "1"}}}} for j in range(25)]
        await clients.dynamodb.batch_write_item(RequestItems={name: puts})
    assert started["ExportStatus"] == "IN_PROGRESS"
    done = await finished(clients.dynamodb, started["ExportArn"])
    summary = orjson.loads(await read(clients.s3, name, done["ExportManifest"]))
    lines = [orjson.loads(one) for one in (await read(clients.s3, name, summary["manifestFilesS3Key"])).splitlines()]
    assert len(lines) == 20
    values = []
    for line in lines:
        content = gzip.decompress(await read(clients.s3, name, line["dataFileS3Key"]))
        values += [orjson.loads(item)["Item"]["n"]["N"] for item in content.splitlines()]
    assert values == ["0"] * 200


async def test_a_small_table_has_files_without_items(clients: Any, name: str) -> None:
    arn = await exportable(clients, name)
    await clients.dynamodb.put_item(TableName=name, Item={"pk": {"S": "only"}})
    started = (await clients.dynamodb.export_table_to_point_in_time(TableArn=arn, S3Bucket=name))["ExportDescription"]
    done = await finished(clients.dynamodb, started["ExportArn"])
    summary = orjson.loads(await read(clients.s3, name, done["ExportManifest"]))
    lines = [orjson.loads(one) for one in (await read(clients.s3, name, summary["manifestFilesS3Key"])).splitlines()]
    assert sorted(line["itemCount"] for line in lines) == [0, 0, 0, 1]
    empty = next(line for line in lines if line["itemCount"] == 0)
    assert gzip.decompress(await read(clients.s3, name, empty["dataFileS3Key"])) == b""


async def test_the_same_token_gives_the_same_export(clients: Any, name: str) -> None:
    arn = await exportable(clients, name)
    request = {"TableArn": arn, "S3Bucket": name, "ClientToken": name}
    first = (await clients.dynamodb.export_table_to_point_in_time(**request))["ExportDescription"]
    again = (await clients.dynamodb.export_table_to_point_in_time(**request))["ExportDescription"]
    assert again["ExportArn"] == first["ExportArn"]
    with pytest.raises(clients.dynamodb.exceptions.ExportConflictException):
        await clients.dynamodb.export_table_to_point_in_time(**request, S3Prefix="other")
    listed = (await clients.dynamodb.list_exports(TableArn=arn))["ExportSummaries"]
    assert [one["ExportArn"] for one in listed] == [first["ExportArn"]]


async def test_the_export_time_asked_for_is_described(clients: Any, name: str) -> None:
    arn = await exportable(clients, name)
    asked = int(time.time()) - 120
    request = {"TableArn": arn, "S3Bucket": name, "ExportTime": asked}
    started = (await clients.dynamodb.export_table_to_point_in_time(**request))["ExportDescription"]
    assert started["ExportTime"].timestamp() == asked
    with pytest.raises(clients.dynamodb.exceptions.InvalidExportTimeException):
        await clients.dynamodb.export_table_to_point_in_time(**{**request, "ExportTime": asked + 3600})


async def test_a_missing_bucket_fails_the_export_afterwards(clients: Any, name: str) -> None:
    arn = await exportable(clients, name)
    request = {"TableArn": arn, "S3Bucket": f"{name}-missing"}
    started = (await clients.dynamodb.export_table_to_point_in_time(**request))["ExportDescription"]
    assert started["ExportStatus"] == "IN_PROGRESS"
    failed = await finished(clients.dynamodb, started["ExportArn"])
    assert (failed["ExportStatus"], failed["FailureCode"]) == ("FAILED", "S3NoSuchBucket")
    with pytest.raises(ClientError) as error:
        await clients.dynamodb.describe_export(ExportArn=started["ExportArn"] + "0")
    assert error.value.response["Error"]["Code"] == "ExportNotFoundException"
