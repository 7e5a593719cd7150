"""ExportTableToPointInTime: the table as it is at the call, in the layout that the real service writes to S3.

Rows are immutable, so the list of rows taken at the call is one instant, however long the files take. What
``ExportTime`` asks for is described, not reconstructed.
Source: AWS "DynamoDB table export output format".
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import orjson

from dyncdc.emulator.aws.server.moto_server import Moto
from dyncdc.emulator.aws.server.settings import Settings
from dyncdc.emulator.aws.server.wire import AwsError, Wire, iso

from .export_content import INCREMENTAL, exported
from .items import PARTITIONS, Row
from .tables import Table, Tables

BYTES_PER_FILE = 8 * 1024 * 1024
LEAST_FILES = 4
Spawn = Callable[[Coroutine[Any, Any, None], str], object]


class Exports:
    """All exports ever asked for."""

    def __init__(self, tables: Tables, moto: Moto, settings: Settings, spawn: Spawn) -> None:
        self._tables = tables
        self._moto = moto
        self._settings = settings
        self._spawn = spawn
        self._exports: dict[str, Wire] = {}
        self._by_token: dict[str, tuple[Wire, str]] = {}

    def start(self, request: Wire, region: str) -> Wire:
        """Source: AWS ExportTableToPointInTime: needs PITR, the same ClientToken gives the same export."""
        table = self._tables.find(request["TableArn"], region)
        token = request.get("ClientToken") or str(uuid.uuid4())
        if token in self._by_token:
            asked, arn = self._by_token[token]
            if asked != request:
                raise AwsError(
                    "ExportConflictException", "There was a conflict when writing to the specified S3 bucket"
                )
            return {"ExportDescription": _described(self._exports[arn])}
        now = time.time()
        export_time = float(request.get("ExportTime") or now)
        self._check(table, request, export_time, now)
        rows = exported(list(table.items.rows()), request, table.items.schema.names)
        export_id = f"{int(now * 1000):014d}-{uuid.uuid4().hex[:8]}"
        description: Wire = {
            "ExportArn": f"{table.arn}/export/{export_id}",
            "ExportStatus": "IN_PROGRESS",
            "StartTime": now,
            "TableArn": table.arn,
            "TableId": table.id,
            "ExportTime": None if request.get("ExportType") == INCREMENTAL else export_time,
            "ClientToken": token,
            "S3Bucket": request["S3Bucket"],
            "S3BucketOwner": request.get("S3BucketOwner"),
            "S3Prefix": request.get("S3Prefix"),
            "S3SseAlgorithm": request.get("S3SseAlgorithm", "AES256"),
            "S3SseKmsKeyId": request.get("S3SseKmsKeyId"),
            "ExportFormat": "DYNAMODB_JSON",
            "ExportType": request.get("ExportType", "FULL_EXPORT"),
            "IncrementalExportSpecification": request.get("IncrementalExportSpecification"),
            "FilterSpecification": request.get("FilterSpecification"),
        }
        self._exports[description["ExportArn"]] = description
        self._by_token[token] = (request, description["ExportArn"])
        self._spawn(self._run(description, export_id, rows, region), f"export:{export_id}")
        return {"ExportDescription": _described(description)}

    def describe(self, request: Wire, _region: str) -> Wire:
        """Source: AWS DescribeExport."""
        description = self._exports.get(request["ExportArn"])
        if description is None:
            raise AwsError("ExportNotFoundException", f"Export not found: {request['ExportArn']}")
        return {"ExportDescription": _described(description)}

    def list_exports(self, request: Wire, _region: str) -> Wire:
        """Source: AWS ListExports, with its pages."""
        table_arn = request.get("TableArn")
        found = [one for one in self._exports.values() if not table_arn or one["TableArn"] == table_arn]
        start = int(request.get("NextToken") or 0)
        size = request.get("MaxResults") or 25
        names = ("ExportArn", "ExportStatus", "ExportType")
        answer: Wire = {"ExportSummaries": [{name: one[name] for name in names} for one in found[start : start + size]]}
        if start + size < len(found):
            answer["NextToken"] = str(start + size)
        return answer

    def _check(self, table: Table, request: Wire, export_time: float, now: float) -> None:
        if not table.point_in_time_recovery:
            message = f"Point in time recovery is not enabled for table '{table.name}'"
            raise AwsError("PointInTimeRecoveryUnavailableException", message)
        if export_time > now + 1:
            raise AwsError(
                "InvalidExportTimeException", "The specified ExportTime is outside of the point in time window"
            )
        if request.get("ExportFormat", "DYNAMODB_JSON") != "DYNAMODB_JSON":
            raise AwsError("ValidationException", "The local AWS exports DYNAMODB_JSON only")
        if request.get("ExportType", "FULL_EXPORT") not in ("FULL_EXPORT", INCREMENTAL):
            raise AwsError("ValidationException", "ExportType must be FULL_EXPORT or INCREMENTAL_EXPORT")

    async def _run(self, description: Wire, export_id: str, rows: list[Row], region: str) -> None:
        try:
            async with asyncio.timeout(600):
                await self._write(description, export_id, rows, region)
        except (AwsError, aiohttp.ClientError, OSError) as error:
            code = error.code if isinstance(error, AwsError) else "UNKNOWN"
            message = str(error)
            description.update(ExportStatus="FAILED", FailureCode=code, FailureMessage=message, EndTime=time.time())

    async def _write(self, description: Wire, export_id: str, rows: list[Row], region: str) -> None:
        bucket = description["S3Bucket"]
        prefix = (description["S3Prefix"] or "").strip("/")
        base = "/".join(part for part in (prefix, "AWSDynamoDB", export_id) if part)
        await self._moto.put_object(bucket, f"{base}/_started", b"", region)
        least_end = time.monotonic() + self._settings.export_delay_seconds
        lines = []
        size = sum(row.size for row in rows)
        for part in _parts(rows, self._settings.export_files or max(LEAST_FILES, -(-size // BYTES_PER_FILE))):
            bare = not part and self._settings.export_bare_empty_files
            content = b"" if bare else await asyncio.to_thread(_file, part)
            key = f"{base}/data/{base64.b32encode(uuid.uuid4().bytes).decode().lower()[:26]}.json.gz"
            etag = await self._moto.put_object(bucket, key, content, region)
            line = {"itemCount": len(part), "md5Checksum": _md5(content), "etag": f"{etag}-1", "dataFileS3Key": key}
            lines.append(orjson.dumps(line) + b"\n")
        await asyncio.sleep(max(0.0, least_end - time.monotonic()))
        await self._put_manifest(bucket, f"{base}/manifest-files", b"".join(lines), region)
        description.update(BilledSizeBytes=size, ItemCount=len(rows), EndTime=time.time())
        summary = orjson.dumps(_summary(description, f"{base}/manifest-files.json"))
        await self._put_manifest(bucket, f"{base}/manifest-summary", summary, region)
        description.update(ExportStatus="COMPLETED", ExportManifest=f"{base}/manifest-summary.json")

    async def _put_manifest(self, bucket: str, name: str, content: bytes, region: str) -> None:
        await self._moto.put_object(bucket, f"{name}.json", content, region)
        await self._moto.put_object(bucket, f"{name}.md5", _md5(content).encode(), region)


def _described(description: Wire) -> Wire:
    return {name: value for name, value in description.items() if value is not None}


def _parts(rows: list[Row], count: int) -> list[list[Row]]:
    """Share rows out by partition, one file for each range of partitions: an empty range is a file without items."""
    parts: list[list[Row]] = [[] for _ in range(count)]
    for row in rows:
        place = int.from_bytes(row.key.digest[:2], "big")
        parts[place * count // (PARTITIONS * 256)].append(row)
    return parts


def _file(rows: list[Row]) -> bytes:
    lines = b"".join(orjson.dumps(row.attributes) + b"\n" for row in rows)
    return gzip.compress(lines, compresslevel=4)


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _summary(description: Wire, files_key: str) -> Wire:
    at = description["ExportTime"]
    return {
        "version": "2020-06-30",
        "exportArn": description["ExportArn"],
        "startTime": iso(description["StartTime"]),
        "endTime": iso(description["EndTime"]),
        "tableArn": description["TableArn"],
        "tableId": description["TableId"],
        "exportTime": None if at is None else iso(at),
        "s3Bucket": description["S3Bucket"],
        "s3Prefix": description["S3Prefix"],
        "s3SseAlgorithm": description["S3SseAlgorithm"],
        "s3SseKmsKeyId": description["S3SseKmsKeyId"],
        "manifestFilesS3Key": files_key,
        "billedSizeBytes": description["BilledSizeBytes"],
        "itemCount": description["ItemCount"],
        "outputFormat": description["ExportFormat"],
        "exportType": description["ExportType"],
        "filterSpecification": description["FilterSpecification"],
    }
