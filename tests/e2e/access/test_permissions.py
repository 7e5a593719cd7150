"""``dyncdc check`` with an identity that may not do everything: it names what is missing and ends with 3."""

from __future__ import annotations

import pytest
from support.servers.place import Place


def denied(action: str) -> dict[str, object]:
    """As IAM refuses an action."""
    message = f"User: arn:aws:iam::123456789012:user/me is not authorized to perform: {action} on resource: x"
    return {"error": "AccessDeniedException", "message": message, "status": 400}


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("DescribeStreamSummary", "kinesis:DescribeStreamSummary"),
        ("ListShards", "kinesis:ListShards"),
        ("GetShardIterator", "kinesis:GetShardIterator"),
        ("GetRecords", "kinesis:GetRecords"),
        ("DescribeTable", "dynamodb:DescribeTable"),
        ("DescribeKinesisStreamingDestination", "dynamodb:DescribeKinesisStreamingDestination"),
        ("DescribeContinuousBackups", "dynamodb:DescribeContinuousBackups"),
        ("Scan", "dynamodb:Scan"),
    ],
)
def test_a_missing_permission_is_named(place: Place, operation: str, action: str) -> None:
    table = place.make_table("users", {"id": "S"}, place.make_stream())
    config = place.configure([place.entry(table)])
    place.aws.inject(operation, denied(action), probability=1.0)
    found = place.command("check", "-c", str(config))
    assert found.code == 3, found.out
    lines = [line for line in found.out.splitlines() if line.startswith("error")]
    assert lines and all(action in line and "grant the missing permission" in line for line in lines), found.out


def test_a_bucket_that_may_not_be_seen_names_the_permission(place: Place) -> None:
    table = place.make_table("users", {"id": "S"}, place.make_stream())
    config = place.configure([place.entry(table)])
    place.aws.inject("HeadBucket", {"error": "AccessDenied", "status": 403}, probability=1.0)
    found = place.command("check", "-c", str(config))
    assert found.code == 3, found.out
    (line,) = [line for line in found.out.splitlines() if line.startswith("error")]
    assert "s3:ListBucket" in line


def test_with_all_permissions_nothing_is_wrong(place: Place) -> None:
    table = place.make_table("users", {"id": "S"}, place.make_stream())
    found = place.command("check", "-c", str(place.configure([place.entry(table)])))
    assert found.code == 0, found.out
