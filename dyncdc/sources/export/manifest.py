"""The manifests of a DynamoDB export: bytes into checked values, or an error that names the file. No I/O.

Source: AWS DynamoDB, "DynamoDB table export output format": a summary, a list of data files, a checksum beside each.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dyncdc.errors import ConfigError, CorruptSnapshotError

CHECKSUM_SUFFIXES = (".md5", ".checksum")
"""AWS has used both: the files stand beside ``manifest-*.json`` in place of ``.json``."""

_AGAIN = "the export is not what DynamoDB wrote; take a new one"


@dataclass(frozen=True, slots=True)
class Summary:
    """What ``manifest-summary.json`` says."""

    export_arn: str
    bucket: str
    files_key: str
    item_count: int


@dataclass(frozen=True, slots=True)
class DataFile:
    """One line of ``manifest-files.json``: what the object must turn out to be."""

    key: str
    item_count: int
    md5: bytes


class _SummaryBody(msgspec.Struct):
    s3Bucket: str
    manifestFilesS3Key: str
    itemCount: int
    exportArn: str = ""


class _FileLine(msgspec.Struct):
    dataFileS3Key: str
    itemCount: int
    md5Checksum: str


_SUMMARY = msgspec.json.Decoder(_SummaryBody)
_FIELDS = msgspec.json.Decoder(dict[str, Any])
_LINES = msgspec.json.Decoder(_FileLine)


def summary_key(prefix: str, export_arn: str) -> str:
    """Where the summary of an export lies when its description does not say."""
    parts = (prefix.strip("/"), "AWSDynamoDB", export_arn.rpartition("/")[2], "manifest-summary.json")
    return "/".join(part for part in parts if part)


def checksum_keys(key: str) -> tuple[str, ...]:
    """Where the checksum of a manifest may lie."""
    return tuple(key.removesuffix(".json") + suffix for suffix in CHECKSUM_SUFFIXES)


def verify_checksum(key: str, body: bytes, checksum: bytes) -> None:
    """Compare a manifest with the text of its checksum file. Raises CorruptSnapshotError."""
    text = checksum.strip().strip(b'"')
    wanted = (hashlib.md5(body, usedforsecurity=False).digest(), hashlib.sha256(body).digest())
    if not any(text in (base64.b64encode(digest), digest.hex().encode()) for digest in wanted):
        raise CorruptSnapshotError(f"verifying {key}: its checksum does not match", hint=_AGAIN)


def refuse_other_exports(doing: str, fields: Mapping[str, Any]) -> None:
    """Raise ConfigError unless an export holds every item of its table, whole, in DynamoDB's JSON.

    ``fields``: all that a description or a summary says; they spell the same names differently. A field about a filter
    is not to be understood before it is believed: what an export leaves out would be taken for deleted.
    """
    said = {name.lower(): value for name, value in fields.items() if value not in (None, "", {}, [])}
    why_not = ""
    if said.get("exporttype", "FULL_EXPORT") != "FULL_EXPORT" or "incrementalexportspecification" in said:
        why_not = "it is an incremental export, which holds changes only"
    elif filters := sorted(name for name in said if name.startswith("filter")):
        why_not = f"it is a filtered export ({filters[0]}), which leaves out items or attributes"
    elif said.get("exportformat", said.get("outputformat", "DYNAMODB_JSON")) != "DYNAMODB_JSON":
        why_not = "it is not written as DYNAMODB_JSON"
    if why_not:
        raise ConfigError(
            f"{doing}: {why_not}, and a snapshot is a full export without a filter, in DYNAMODB_JSON",
            hint="correct snapshot.export_arn, or name a bucket and leave the export to dyncdc",
        )


def parse_summary(key: str, body: bytes, export_arn: str) -> Summary:
    """Read ``manifest-summary.json`` of the export ``export_arn``.

    Raises CorruptSnapshotError when it is not readable or another export's, ConfigError for one that is no snapshot.
    """
    try:
        refuse_other_exports(f"reading {key}", _FIELDS.decode(body))
        found = _SUMMARY.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptSnapshotError(f"reading {key}: not a manifest summary", hint=_AGAIN) from error
    if found.exportArn and found.exportArn != export_arn:
        raise CorruptSnapshotError(f"reading {key}: it belongs to another export", hint=_AGAIN)
    if found.itemCount < 0 or not found.s3Bucket or not found.manifestFilesS3Key:
        raise CorruptSnapshotError(f"reading {key}: bucket, file list or item count is missing", hint=_AGAIN)
    return Summary(found.exportArn or export_arn, found.s3Bucket, found.manifestFilesS3Key, found.itemCount)


def parse_files(summary: Summary, body: bytes) -> Sequence[DataFile]:
    """Read ``manifest-files.json``: each data file once, in its order; the items of all add up to the summary's count.

    Raises CorruptSnapshotError.
    """
    key = summary.files_key
    files: dict[str, DataFile] = {}
    for number, line in enumerate(body.split(b"\n"), start=1):
        if not line.strip():
            continue
        found = _parse_line(f"{key} line {number}", line)
        if files.setdefault(found.key, found) != found:
            raise CorruptSnapshotError(f"reading {key} line {number}: {found.key} is listed twice, differently")
    total = sum(file.item_count for file in files.values())
    if total != summary.item_count:
        raise CorruptSnapshotError(
            f"reading {key}: its files hold {total} items, the summary says {summary.item_count}", hint=_AGAIN
        )
    return tuple(files.values())


def _parse_line(where: str, line: bytes) -> DataFile:
    try:
        found = _LINES.decode(line)
        md5 = base64.b64decode(found.md5Checksum, validate=True)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, binascii.Error, ValueError) as error:
        raise CorruptSnapshotError(f"reading {where}: not the description of a data file", hint=_AGAIN) from error
    if len(md5) != hashlib.md5(usedforsecurity=False).digest_size or found.itemCount < 0 or not found.dataFileS3Key:
        raise CorruptSnapshotError(f"reading {where}: key, item count or md5 is missing", hint=_AGAIN)
    return DataFile(found.dataFileS3Key, found.itemCount, md5)
