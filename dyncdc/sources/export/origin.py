"""The export side of one table's snapshot: ask DynamoDB for an export, follow it, open what it wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from dyncdc.errors import ConfigError, CorruptSnapshotError, FatalError, UnusableTableError
from dyncdc.model.shards import SourceId
from dyncdc.model.snapshots import Export
from dyncdc.sources.aws_errors import CredentialsError, Verdict, aws_call
from dyncdc.sources.clients import AwsClients
from dyncdc.sources.dynamodb import TABLE_UNKNOWN, Tables
from dyncdc.sources.raw_answers import raw_answer
from dyncdc.sources.scan.origin import is_scan

from . import manifest
from .data_files import ExportSource

MANIFEST_MAX_BYTES = 256 * 2**20

_EXPORT: Mapping[str, Verdict] = {
    "ExportNotFoundException": (ConfigError, "correct snapshot.export_arn; DynamoDB forgets an export after 35 days"),
    "ValidationException": (ConfigError, "snapshot.export_arn is the ARN of an export of this table and region"),
}
_MANIFEST: Mapping[str, Verdict] = dict.fromkeys(
    ("NoSuchKey", "404"), (CorruptSnapshotError, "the export's objects were deleted or moved; take a new export")
)


class _Description(msgspec.Struct):
    """ExportDescription, what we use of it."""

    ExportArn: str
    ExportStatus: Literal["IN_PROGRESS", "COMPLETED", "FAILED"]
    ExportTime: datetime
    S3Bucket: str
    S3Prefix: str = ""
    ExportManifest: str = ""
    ItemCount: int = 0
    FailureCode: str = ""
    FailureMessage: str = ""
    TableArn: str = ""

    def export(self) -> Export:
        failure = ": ".join(part for part in (self.FailureCode, self.FailureMessage) if part)
        return Export(self.ExportArn, self.ExportStatus, self.ExportTime.timestamp(), self.ItemCount, failure)


class ExportOrigin:
    """Exports of one table. With ``export_arn`` that export is the only one, and none is ever started."""

    def __init__(
        self,
        clients: AwsClients,
        table: str,
        *,
        stream_arn: str,
        bucket: str = "",
        prefix: str = "",
        export_arn: str = "",
        bucket_owner: str = "",
        kms_key: str = "",
    ) -> None:
        self._clients = clients
        self._tables = Tables(clients.dynamodb)
        self._table = table
        self._stream_arn = stream_arn
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        self._export_arn = export_arn
        self._owner = bucket_owner
        self._kms_key = kms_key

    async def validate(self) -> None:
        """Find out before the first export whether one can be had: the table, its backups and the bucket.

        Raises ConfigError with what to do, RetryableError, CredentialsError.
        """
        description = await self._tables.describe(self._table)
        if self._export_arn:
            found = await self._describe(self._export_arn)
            if found.TableArn and found.TableArn != description.arn:
                raise ConfigError(
                    f"checking export {self._export_arn}: it is not an export of table {self._table}",
                    hint="correct snapshot.export_arn",
                )
            return
        if not await self._tables.point_in_time_recovery(self._table):
            raise self._recovery_is_off()
        missing: Verdict = (ConfigError, "create the bucket or correct snapshot.bucket")
        special: dict[str, Verdict] = dict.fromkeys(("404", "NoSuchBucket", "400"), missing)
        # HEAD has no body in which AWS could name what is missing
        special["403"] = (CredentialsError, "grant s3:ListBucket on it; are its name and snapshot.bucket_owner right?")
        async with aws_call(f"checking bucket {self._bucket}", special):
            expected = {"ExpectedBucketOwner": self._owner} if self._owner else {}
            await self._clients.s3.head_bucket(Bucket=self._bucket, **expected)

    def _recovery_is_off(self) -> ConfigError:
        return UnusableTableError(
            f"exporting table {self._table}: point-in-time recovery is off", hint=enable_recovery_command(self._table)
        )

    async def covered_at(self) -> float | None:
        """Server time of an answer that showed this table's destination on our stream ACTIVE, else None."""
        return await self._tables.covered_at(self._table, self._stream_arn)

    async def identity(self) -> str:
        """What tells the table from another one of its name. Raises ConfigError when there is none."""
        return (await self._tables.describe(self._table)).id

    async def request_export(self, token: str) -> Export:
        """Start an export into the bucket, or find the one that ``token`` has started before.

        Raises ConfigError for a table, backup setting or bucket that is not there.
        """
        if self._export_arn:
            return await self.describe_export(self._export_arn)
        description = await self._tables.describe(self._table)
        recovery: Verdict = (ConfigError, enable_recovery_command(self._table))
        special: dict[str, Verdict] = {
            **TABLE_UNKNOWN,
            "PointInTimeRecoveryUnavailableException": recovery,
            "ExportConflictException": (
                FatalError,
                "snapshot.bucket, prefix or key changed while the export was asked for",
            ),
            "InvalidExportTimeException": (FatalError, "report this"),
            "ValidationException": (ConfigError, "check snapshot.bucket, prefix, bucket_owner and kms_key"),
        }
        async with aws_call(f"exporting table {self._table} to s3://{self._bucket}/{self._prefix}", special):
            response = await self._clients.dynamodb.export_table_to_point_in_time(
                TableArn=description.arn,
                S3Bucket=self._bucket,
                **({"S3Prefix": self._prefix} if self._prefix else {}),
                **({"S3BucketOwner": self._owner} if self._owner else {}),
                **({"S3SseAlgorithm": "KMS", "S3SseKmsKeyId": self._kms_key} if self._kms_key else {}),
                ExportFormat="DYNAMODB_JSON",
                ClientToken=token,
            )
            return msgspec.convert(response.get("ExportDescription"), _Description).export()

    async def describe_export(self, arn: str) -> Export:
        """The export's present state. Raises ConfigError when DynamoDB does not know it, or it is no snapshot."""
        return (await self._describe(arn)).export()

    async def _describe(self, arn: str) -> _Description:
        if is_scan(arn):
            raise ConfigError(
                f"loading {self._table}: its snapshot was begun by a scan",
                hint='leave snapshot.method = "scan" until it is complete',
            )
        async with aws_call(f"describing export {arn}", _EXPORT):
            response = await self._clients.dynamodb.describe_export(ExportArn=arn)
            # Before anything else: an incremental export need not even say its time.
            manifest.refuse_other_exports(f"describing export {arn}", raw_answer(response, "ExportDescription"))
            return msgspec.convert(response.get("ExportDescription"), _Description)

    async def open_export(self, export: Export, source: SourceId | None = None) -> ExportSource:
        """Read and verify both manifests, from where the export's own description says they are.

        ``source``: what its files' checkpoints are filed under; the export's ARN when it is not given.
        """
        found = await self._describe(export.arn)
        key = found.ExportManifest or manifest.summary_key(found.S3Prefix, export.arn)
        body = await self._read_manifest(found.S3Bucket, key)
        summary = manifest.parse_summary(key, body, export.arn)
        listing = await self._read_manifest(summary.bucket, summary.files_key)
        # A large table has a hundred thousand files: parsing their list would hold the event loop for too long.
        files = await asyncio.to_thread(manifest.parse_files, summary, listing)
        return ExportSource(self._clients.s3, source or SourceId(export.arn), self._table, summary.bucket, files)

    async def _read_manifest(self, bucket: str, key: str) -> bytes:
        body = await self._read_object(bucket, key)
        names = manifest.checksum_keys(key)
        for name in names:
            try:
                checksum = await self._read_object(bucket, name)
            except CorruptSnapshotError:
                if name == names[-1]:
                    raise
            else:
                manifest.verify_checksum(key, body, checksum)
                break
        return body

    async def _read_object(self, bucket: str, key: str) -> bytes:
        async with aws_call(f"reading s3://{bucket}/{key}", _MANIFEST):
            response = await self._clients.s3.get_object(Bucket=bucket, Key=key)
            async with response["Body"] as stream:
                if int(response["ContentLength"]) > MANIFEST_MAX_BYTES:
                    raise CorruptSnapshotError(f"reading s3://{bucket}/{key}: larger than any manifest")
                return bytes(await stream.read())


def enable_recovery_command(table: str) -> str:
    """The command that switches point-in-time recovery on, which exports need."""
    return (
        f"run: aws dynamodb update-continuous-backups --table-name {table} "
        "--point-in-time-recovery-specification PointInTimeRecoveryEnabled=true"
    )
