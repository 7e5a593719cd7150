"""The IAM policy that a configuration needs, and no more: each statement with its reason. Pure.

Source: AWS Service Authorization Reference for DynamoDB, Kinesis Data Streams and S3 (actions and resources);
DynamoDB developer guide, requesting a table export (what the caller needs on the bucket).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dyncdc.config import Config, TableConfig
from dyncdc.sources.stream import READ_ACTIONS

POLICY_VERSION = "2012-10-17"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. ``reason``: for people; ``optional``: only some commands need it, the daemon does not."""

    sid: str
    reason: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    optional: bool = False

    def document(self) -> dict[str, object]:
        """The statement as IAM reads it."""
        return {"Sid": self.sid, "Effect": "Allow", "Action": list(self.actions), "Resource": list(self.resources)}


@dataclass(frozen=True, slots=True)
class Resources:
    """ARNs of what a configuration names: ``tables`` by DynamoDB's name, ``streams`` as the configuration calls them.

    ``keys``: KMS keys of the customer's own that encrypt the streams.
    """

    tables: Mapping[str, str]
    streams: Mapping[str, str]
    keys: Sequence[str] = ()


def required_statements(config: Config, resources: Resources) -> list[Statement]:
    """Return what the commands need with this configuration, in the order in which they need it."""
    tables = list(config.tables)
    found = [_streams(config, resources), *_keys(resources)]
    every = tuple(resources.tables[table.dynamodb] for table in tables)
    described = ("dynamodb:DescribeTable", "dynamodb:DescribeKinesisStreamingDestination")
    found.append(Statement("DescribeTables", "key schema, and whether the changes go to the stream", described, every))
    found += _scans(tables, resources)
    found += _exports(tables, resources)
    found.append(
        Statement(
            "CompareItems",
            "only for commands that read single or all items: `verify`, `dead-letters replay`, the sample of `check`;"
            " leave it out otherwise",
            ("dynamodb:Scan", "dynamodb:BatchGetItem"),
            every,
            optional=True,
        )
    )
    return found


def policy_document(statements: Sequence[Statement]) -> dict[str, object]:
    """Return the policy as IAM takes it."""
    return {"Version": POLICY_VERSION, "Statement": [statement.document() for statement in statements]}


def _streams(config: Config, resources: Resources) -> Statement:
    names = dict.fromkeys(resources.streams[config.stream_of(table)] for table in config.tables)
    return Statement("ReadChanges", "the changes, shard by shard", READ_ACTIONS, tuple(names))


def _keys(resources: Resources) -> Iterator[Statement]:
    if resources.keys:
        reason = "the stream is encrypted with a key of your own; its key policy must allow the same"
        yield Statement("DecryptChanges", reason, ("kms:Decrypt",), tuple(resources.keys))


def _scans(tables: Sequence[TableConfig], resources: Resources) -> Iterator[Statement]:
    scanned = tuple(resources.tables[table.dynamodb] for table in tables if table.snapshot.method == "scan")
    if scanned:
        yield Statement("ScanTables", 'the snapshot (snapshot.method = "scan")', ("dynamodb:Scan",), scanned)
    sampled = tuple(
        resources.tables[table.dynamodb]
        for table in tables
        if table.columns == "infer" and table.snapshot.method != "scan"
    )
    if sampled:
        reason = 'a sample of items, from which a new destination gets its columns (columns = "infer")'
        yield Statement("SampleTables", reason, ("dynamodb:Scan",), sampled)


def _exports(tables: Sequence[TableConfig], resources: Resources) -> Iterator[Statement]:
    exported = [table for table in tables if table.snapshot.method == "export"]
    if not exported:
        return
    started = [table for table in exported if table.snapshot.bucket is not None]
    arns = tuple(resources.tables[table.dynamodb] for table in started)
    if started:
        actions = ("dynamodb:ExportTableToPointInTime", "dynamodb:DescribeContinuousBackups")
        yield Statement(
            "StartExports", "the snapshot: an export, for which point-in-time recovery is on", actions, arns
        )
    described = tuple(f"{resources.tables[table.dynamodb]}/export/*" for table in exported)
    yield Statement("FollowExports", "whether the export is complete", ("dynamodb:DescribeExport",), described)
    if started:
        yield from _bucket(started, resources)
    yield from _export_keys(exported)


def _bucket(tables: Sequence[TableConfig], resources: Resources) -> Iterator[Statement]:
    buckets, objects = {}, {}
    for table in tables:
        partition = resources.tables[table.dynamodb].split(":")[1]
        bucket = f"arn:{partition}:s3:::{table.snapshot.bucket}"
        prefix = table.snapshot.prefix.strip("/")
        buckets[bucket] = True
        objects[f"{bucket}/{prefix}/AWSDynamoDB/*" if prefix else f"{bucket}/AWSDynamoDB/*"] = True
    yield Statement("FindBucket", "whether the bucket is there", ("s3:ListBucket",), tuple(buckets))
    yield Statement(
        "WriteExports",
        "DynamoDB writes the export with the caller's permissions",
        ("s3:PutObject", "s3:PutObjectAcl", "s3:AbortMultipartUpload"),
        tuple(objects),
    )
    yield Statement("ReadExports", "the export's manifests and files", ("s3:GetObject",), tuple(objects))


def _export_keys(tables: Sequence[TableConfig]) -> Iterator[Statement]:
    keys = dict.fromkeys(table.snapshot.kms_key for table in tables if table.snapshot.kms_key)
    if keys:
        reason = "the key that encrypts the exports (snapshot.kms_key); its key policy must allow the same"
        yield Statement("UseExportKeys", reason, ("kms:GenerateDataKey", "kms:Decrypt"), tuple(filter(None, keys)))
