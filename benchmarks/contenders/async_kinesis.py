"""The package async-kinesis with its own decoding, rows by TypeDeserializer into asynch, 10,000 at a time."""

from __future__ import annotations

import asyncio
from typing import Any

from asynch.proto.connection import Connection
from common import COLUMNS, arguments, await_end, deserialized_rows, say
from kinesis import Consumer

BATCH = 10_000


async def main() -> None:
    """Drain the stream."""
    options = arguments()
    connection = Connection(host="127.0.0.1", port=options.tcp_port, database=options.database)
    await connection.connect()
    insert = f"INSERT INTO {options.table} ({','.join(COLUMNS)}) VALUES"
    landed, batch = 0, list[dict[str, Any]]()
    async with Consumer(
        stream_name=options.stream,
        endpoint_url=options.endpoint,
        region_name="us-east-1",
        max_queue_size=20_000,
        record_limit=BATCH,
        sleep_time_no_records=0.2,
        use_list_shards=True,
    ) as consumer:
        say("ready")
        while landed < options.records:
            async for record in consumer:
                batch.append(record)
                if len(batch) >= BATCH or landed + len(batch) >= options.records:
                    await connection.execute(insert, deserialized_rows(batch))
                    landed, batch = landed + len(batch), []
                if landed >= options.records:
                    break
    await_end()


asyncio.run(main())
