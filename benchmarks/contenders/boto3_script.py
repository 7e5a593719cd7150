"""A script: boto3, TypeDeserializer, rows into clickhouse-connect. One thing after the other."""

from __future__ import annotations

import time

import boto3
import clickhouse_connect
from common import COLUMNS, EMPTY_PAUSE_SECONDS, arguments, await_end, deserialized_rows, say

LIMIT = 10_000


def main() -> None:
    """Drain the shards in turn."""
    options = arguments()
    clickhouse = clickhouse_connect.get_client(host="127.0.0.1", port=options.http_port, database=options.database)
    kinesis = boto3.client("kinesis")
    iterators = [
        kinesis.get_shard_iterator(
            StreamName=options.stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        for shard in kinesis.list_shards(StreamName=options.stream)["Shards"]
    ]
    say("ready")
    landed = 0
    while landed < options.records:
        before = landed
        for number, iterator in enumerate(iterators):
            answer = kinesis.get_records(ShardIterator=iterator, Limit=LIMIT)
            iterators[number] = answer["NextShardIterator"]
            if answer["Records"]:
                rows = deserialized_rows(record["Data"] for record in answer["Records"])
                clickhouse.insert(options.table, rows, column_names=COLUMNS)
                landed += len(rows)
        if landed == before:
            time.sleep(EMPTY_PAUSE_SECONDS)
    await_end()


main()
