"""``[tables.snapshot]``: how a table is loaded before, and while, its changes are followed."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from .sections import Section, Text

AWS_EXPORT_FUZZ_SECONDS = 60.0
"""An export's time is exact to a minute only (AWS, ExportTableToPointInTime, 2026)."""

_EXPORT_ARN = re.compile(r"arn:[a-z-]+:dynamodb:[a-z0-9-]+:\d{12}:table/[a-zA-Z0-9_.-]{3,255}/export/[a-zA-Z0-9-]+")
_KMS_KEY = re.compile(r"arn:[a-z-]+:kms:[a-z0-9-]+:\d{12}:key/[a-zA-Z0-9-]+", re.ASCII)
_ACCOUNT = re.compile(r"\d{12}", re.ASCII)
_EXPORT_KEYS = frozenset({"bucket", "prefix", "bucket_owner", "kms_key", "export_arn"})
_SCAN_KEYS = frozenset({"segments", "read_capacity_units"})
SCAN_MOST_SEGMENTS = 1_000_000
"""Source: AWS Scan, TotalSegments."""


class SnapshotConfig(Section):
    """How a table is loaded before, and while, its changes are followed."""

    method: Literal["export", "scan", "none"] = Field(
        description="export (through S3, no read capacity), scan (needs neither S3 nor backups) or none (changes only)"
    )
    bucket: Text | None = Field(
        default=None, description="S3 bucket for a new export; or name a finished one by export_arn"
    )
    prefix: str = Field(default="dyncdc/", description="key prefix of a new export")
    bucket_owner: str | None = Field(
        default=None, description="AWS account that the bucket belongs to, where that is another one than the table's"
    )
    kms_key: str | None = Field(
        default=None, description="ARN of the KMS key that encrypts a new export, where the bucket demands one"
    )
    export_arn: str | None = Field(
        default=None, description="use this finished full export, without a filter, instead of starting one"
    )
    segments: int = Field(
        default=4, gt=0, le=SCAN_MOST_SEGMENTS, description="segments of a scan; one that runs keeps its own number"
    )
    read_capacity_units: float = Field(
        default=200.0,
        gt=0,
        description="read capacity units that a scan may use per second; less while DynamoDB throttles",
    )
    margin_seconds: float = Field(
        default=300.0,
        ge=0,
        description="snapshot rows count as this much older than the export, or the begin of the scan: any change wins",
    )
    settle_seconds: float = Field(
        default=AWS_EXPORT_FUZZ_SECONDS,
        ge=0,
        description="how far an export, or the begin of a scan, must lie behind the start of the stream's coverage",
    )
    accept_gap: bool = Field(
        default=False, description="use an export older than the stream's coverage; the gap is written to dyncdc_gaps"
    )

    @field_validator("export_arn")
    @classmethod
    def _is_export_arn(cls, value: str | None) -> str | None:
        if value is not None and not _EXPORT_ARN.fullmatch(value):
            raise ValueError("must be the ARN of a DynamoDB export, arn:aws:dynamodb:...:table/NAME/export/ID")
        return value

    @field_validator("bucket_owner")
    @classmethod
    def _is_account(cls, value: str | None) -> str | None:
        if value is not None and not _ACCOUNT.fullmatch(value):
            raise ValueError("must be the 12 digits of an AWS account, in quotes")
        return value

    @field_validator("kms_key")
    @classmethod
    def _is_key_arn(cls, value: str | None) -> str | None:
        if value is not None and not _KMS_KEY.fullmatch(value):
            raise ValueError("must be the ARN of a KMS key, arn:aws:kms:...:key/ID: policies do not know aliases")
        return value

    @model_validator(mode="after")
    def _combinations(self) -> SnapshotConfig:
        given = self.model_fields_set
        foreign = {"export": _SCAN_KEYS, "scan": _EXPORT_KEYS, "none": given - {"method"}}[self.method] & given
        if foreign:
            raise ValueError(f'{min(foreign)} means nothing with method = "{self.method}"')
        if self.method == "export" and (self.bucket is None) == (self.export_arn is None):
            raise ValueError('method = "export" needs either bucket (start an export) or export_arn (use that one)')
        new_only = {"prefix", "bucket_owner"} & given
        if self.export_arn is not None and new_only:
            raise ValueError(f"{min(new_only)} means nothing with export_arn")
        return self
