"""Stage: the daemon's own code, in this process, between the local AWS and a real ClickHouse.

Change records are put into the stream as they are, so that a test chooses their times, order, shard and damage.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from dyncdc.app import run_daemon
from dyncdc.app.run_options import RunOptions
from dyncdc.config import load_config
from dyncdc.operations.verify import verify_table
from support.processes.harness import ClickHouseHttp
from support.servers.place import Place

LIFE_SECONDS = 40.0
"""Nothing here takes longer, unless it hangs."""

HASH_KEYS = 2**128

Event = Literal["INSERT", "MODIFY", "REMOVE"]
Item = Mapping[str, Mapping[str, Any]]


def now() -> int:
    """The time in microseconds, as a version counts it."""
    return time.time_ns() // 1000


@dataclass
class Stage:
    """One stream, some tables, and the lives of one pipeline."""

    place: Place
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Sections of the configuration beside the tables."""
    entries: list[dict[str, Any]] = field(default_factory=list)
    _stream: str = ""

    @property
    def clickhouse(self) -> ClickHouseHttp:
        """The test's database."""
        return self.place.clickhouse

    def stream(self, shards: int = 1) -> str:
        """Make the stream, unless it is there, and return its ARN."""
        self._stream = self._stream or self.place.make_stream(shards)
        return self._stream

    def table(
        self,
        label: str = "orders",
        keys: Mapping[str, str] | None = None,
        *,
        items: Sequence[Item] = (),
        precision: str = "",
        **entry: Any,
    ) -> str:
        """Make a table whose changes go to the stream, and configure it; return DynamoDB's name for it.

        Without a ``snapshot`` of its own it is not loaded. ``columns``: (attribute, type) pairs, or what the
        configuration takes. ``items`` are in the table before the stream carries its changes.
        """
        streaming = {"precision": precision} if precision else {}
        name = self.place.make_table(label, keys or {"id": "S"})
        self.place.aws.put_all(name, items)
        self.place.aws.send_changes(name, self.stream(), **streaming)
        columns = entry.get("columns", ())
        if isinstance(columns, Mapping):
            entry["columns"] = [{"attribute": attribute, "type": kind} for attribute, kind in columns.items()]
        self.entries.append(self.place.entry(name, **({"snapshot": {"method": "none"}} | entry)))
        return name

    def put(self, *records: bytes, slot: float = 0.0) -> None:
        """Put records into the stream, in this order. ``slot``, 0 to 1: which part of the hash keys, so which shard."""
        hash_key = str(min(int(slot * HASH_KEYS), HASH_KEYS - 1))
        for data in records:
            self.place.aws.kinesis.put_record(
                StreamName=self.place.name, Data=data, PartitionKey="p", ExplicitHashKey=hash_key
            )

    def put_all(self, records: Sequence[bytes], *, slot: float = 0.0) -> None:
        """As ``put``, many at once; all on one shard, in this order."""
        hash_key = str(min(int(slot * HASH_KEYS), HASH_KEYS - 1))
        for first in range(0, len(records), 500):
            batch = [
                {"Data": data, "PartitionKey": "p", "ExplicitHashKey": hash_key}
                for data in records[first : first + 500]
            ]
            answer = self.place.aws.kinesis.put_records(StreamName=self.place.name, Records=batch)
            assert answer["FailedRecordCount"] == 0

    def configure(self, label: str = "config", **sections: Any) -> str:
        """Write the configuration and return its path."""
        return str(self.place.configure(self.entries, label, **self.options, **sections))

    def once(self, **sections: Any) -> None:
        """Live until all is done."""
        asyncio.run(self.finish(**sections))

    async def finish(self, **sections: Any) -> None:
        """As ``once``, on the loop of the test."""
        async with asyncio.timeout(LIFE_SECONDS):
            assert await run_daemon(load_config(self.configure(**sections)), RunOptions(once=True)) == 0

    @asynccontextmanager
    async def living(self, **sections: Any) -> AsyncIterator[asyncio.Task[int]]:
        """Live beside the test, and die of a sudden at its end, as by SIGKILL."""
        config = load_config(self.configure(**sections))
        async with asyncio.timeout(LIFE_SECONDS):
            session = asyncio.create_task(run_daemon(config, RunOptions(once=False)))
            try:
                yield session
            finally:
                session.cancel()
                await asyncio.wait({session})

    def rows(self, table: str = "orders", columns: str = "*") -> list[list[object]]:
        """What a reader sees: the items of a destination's view, in order."""
        return self.clickhouse.rows(f"SELECT {columns} FROM {table}_current ORDER BY ALL")

    def count(self, table: str = "orders") -> int:
        """How many items a reader sees; 0 while the view is not there yet."""
        view = f"{table}_current"
        return self.clickhouse.number(f"SELECT count() FROM {view}") if view in self.clickhouse.tables() else 0

    def merged(self, table: str = "orders", columns: str = "*") -> list[list[object]]:
        """The winning row of every key, tombstones included (which FINAL would hide)."""
        self.clickhouse.run(f"OPTIMIZE TABLE {table} FINAL")
        return self.clickhouse.rows(f"SELECT {columns} FROM {table} ORDER BY ALL")

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels, of the session beside the test."""
        daemon = self.place.daemon(self.place.directory / "config.toml")
        return await asyncio.to_thread(daemon.metric, name, **labels)

    async def page(self, path: str) -> tuple[int, str]:
        """Status and text of a page of the session beside the test."""
        daemon = self.place.daemon(self.place.directory / "config.toml")
        return await asyncio.to_thread(daemon.get, path)

    async def await_metric(self, name: str, least: float, **labels: str) -> float:
        """Wait until a metric of the session beside the test is at least so much, and return it."""
        async with asyncio.timeout(10):
            while (found := await self.metric(name, **labels)) < least:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return found

    def verify(self, table: str) -> str:
        """The verdict of ``dyncdc verify`` on a table that is quiet."""

        async def compare() -> str:
            return (await verify_table(load_config(self.configure()), table, pauses_seconds=(0.05,))).verdict

        return asyncio.run(compare())

    def dead_letters(self) -> list[dict[str, object]]:
        """The dead letters."""
        return self.clickhouse.dicts("SELECT * FROM dyncdc_dead_letters FINAL ORDER BY ALL")


def change(
    table: str,
    event: Event,
    at: object,
    item: Item,
    *,
    keys: Sequence[str] = ("id",),
    unit: str | None = "MICROSECOND",
    event_id: str = "",
    **fields: Any,
) -> bytes:
    """One change record as DynamoDB sends it. ``at``: its time as it travels; ``unit`` None: an older record."""
    body: dict[str, Any] = {
        "ApproximateCreationDateTime": at,
        "Keys": {name: item[name] for name in keys},
        "SizeBytes": 100,
    }
    if unit is not None:
        body["ApproximateCreationDateTimePrecision"] = unit
    body["OldImage" if event == "REMOVE" else "NewImage"] = dict(item)
    record = {
        "awsRegion": "us-east-1",
        "eventID": event_id or str(uuid.uuid4()),
        "eventName": event,
        "userIdentity": None,
        "recordFormat": "application/json",
        "tableName": table,
        "dynamodb": body,
        "eventSource": "aws:dynamodb",
    }
    return json.dumps(record | fields).encode()


async def until(condition: Any, seconds: float = 10.0, what: str = "the condition") -> None:
    """Poll beside a session until ``condition`` is true."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  # what another process has done is no event here
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None
