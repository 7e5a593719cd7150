"""The scan side of one table's snapshot: nothing is asked of AWS beforehand, so it is complete as soon as it is begun.

What must not change while it runs stands in its name, which is saved before the first page is read: the number of its
segments, and the identity of the table.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from dyncdc.errors import ConfigError, CorruptSnapshotError
from dyncdc.model.shards import SourceId
from dyncdc.model.snapshots import Export
from dyncdc.pipeline.members.assignment import Assignment
from dyncdc.sources.clients import AwsClients
from dyncdc.sources.dynamodb import Tables

from .read_capacity import ReadCapacity
from .segments import ScanSource, segment_ids

_NAME = re.compile(r"scan/(?P<token>[^/]+)/(?P<segments>[1-9][0-9]{0,6})/(?P<table_id>[^/]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Scan:
    """A scan as ``dyncdc_snapshots`` names it, in the column of the export's ARN."""

    token: str
    segments: int
    table_id: str

    def export(self, begun_at: float) -> Export:
        name = f"scan/{self.token}/{self.segments}/{self.table_id}"
        return Export(name, "COMPLETED", begun_at, segments=self.segments)


class ScanOrigin:
    """Scans of one table. ``segments`` counts for a scan that begins; one that runs keeps its own."""

    def __init__(
        self,
        clients: AwsClients,
        table: str,
        *,
        stream_arn: str,
        segments: int,
        read_capacity_units: float,
        assignment: Assignment | None = None,
    ) -> None:
        self._clients = clients
        self._tables = Tables(clients.dynamodb)
        self._table = table
        self._stream_arn = stream_arn
        self._segments = segments
        self._read_capacity_units = read_capacity_units
        self._assignment = assignment or Assignment()

    async def validate(self) -> None:
        """Find out beforehand whether the table can be scanned, by reading one item of it.

        Raises ConfigError with what to do, RetryableError, CredentialsError.
        """
        await self._tables.identity(self._table)
        await self._tables.sample(self._table, 1)

    async def covered_at(self) -> float | None:
        """Server time of an answer that showed this table's destination on our stream ACTIVE, else None."""
        return await self._tables.covered_at(self._table, self._stream_arn)

    async def identity(self) -> str:
        """What tells the table from another one of its name. Raises ConfigError when there is none."""
        return (await self._tables.describe(self._table)).id

    async def request_export(self, token: str) -> Export:
        """Name a scan that begins now. Its time is DynamoDB's own, from an answer older than every page."""
        table_id, now = await self._tables.identity(self._table)
        return _Scan(token, self._segments, table_id).export(now)

    async def describe_export(self, arn: str) -> Export:
        """Begin the scan of that name now: it is asked for only as long as no page has been read."""
        scan = self._parse(arn)
        _, now = await self._tables.identity(self._table)
        return scan.export(now)

    async def open_export(self, export: Export, source: SourceId) -> ScanSource:
        """Go on with a scan. Raises CorruptSnapshotError when its table is not the one that it began with."""
        scan = self._parse(export.arn)
        table_id, _ = await self._tables.identity(self._table)
        if table_id != scan.table_id:
            raise CorruptSnapshotError(
                f"scanning table {self._table}: it was deleted and recreated since the scan began",
                hint="restart dyncdc; it then begins another snapshot",
            )
        capacity = ReadCapacity(self._read_capacity_units * self._share(scan, source), asyncio.get_running_loop().time)
        return ScanSource(self._clients.dynamodb, source, self._table, scan.segments, capacity)

    def _share(self, scan: _Scan, source: SourceId) -> float:
        """Which part of the read capacity is ours: that of our segments, so that all members keep within the whole."""
        owners = self._assignment.owners(source, segment_ids(scan.segments)).values()
        mine = sum(1 for owner in owners if owner == self._assignment.member)
        return max(mine, 1) / scan.segments  # without a segment nothing is read

    def _parse(self, name: str) -> _Scan:
        found = _NAME.fullmatch(name)
        if found is None:
            raise ConfigError(
                f"loading {self._table}: its snapshot was begun by an export",
                hint='leave snapshot.method = "export" until it is complete',
            )
        return _Scan(found["token"], int(found["segments"]), found["table_id"])


def is_scan(arn: str) -> bool:
    """Whether this is the name of a scan, where that of an export could stand."""
    return _NAME.fullmatch(arn) is not None
