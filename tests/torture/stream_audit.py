"""Stream audit: what the stream of a history really carried, read at its end, and so which faults of data happened."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from support.servers.aws import Aws

from . import kinds

Record = dict[str, Any]


def carried(aws: Aws, stream: str) -> Counter[str]:
    """Count duplicates, ties, re-creations, TTL deletes and records that are no change event."""
    counted: Counter[str] = Counter()
    seen: set[str] = set()
    gone: set[str] = set()
    stamps: set[tuple[str, int]] = set()
    for data in _read_all(aws, stream):
        try:
            record = json.loads(data)
            change = record["dynamodb"]
            record["eventID"], change["Keys"]
        except (ValueError, KeyError, TypeError):
            counted[kinds.BAD] += 1
            continue
        if record["eventID"] in seen:
            counted[kinds.DUPLICATE] += 1
            continue
        seen.add(record["eventID"])
        key = f"{record['tableName']} {json.dumps(change['Keys'], sort_keys=True)}"
        stamp = key, change["ApproximateCreationDateTime"]
        counted[kinds.TIE] += stamp in stamps
        stamps.add(stamp)
        if record["eventName"] == "REMOVE":
            gone.add(key)
            counted[kinds.EXPIRED_ITEM] += record["userIdentity"] is not None
        elif record["eventName"] == "INSERT" and key in gone:
            gone.discard(key)
            counted[kinds.RECREATED] += 1
    return counted


def _read_all(aws: Aws, stream: str) -> list[bytes]:
    """Every record of every shard; parents before children, as their numbers are."""
    found: list[bytes] = []
    for shard in aws.kinesis.list_shards(StreamName=stream)["Shards"]:
        iterator = aws.kinesis.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while iterator:
            answer = aws.kinesis.get_records(ShardIterator=iterator)
            found += [record["Data"] for record in answer["Records"]]
            iterator = answer.get("NextShardIterator") if answer["MillisBehindLatest"] else None
    return found
