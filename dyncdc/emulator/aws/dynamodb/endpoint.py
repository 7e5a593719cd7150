"""The DynamoDB endpoint: items, destinations and exports are our own; what a table looks like is kept by moto.

Not served, and refused by name: DynamoDB Streams, PartiQL, backups and restores, imports, global tables.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dyncdc.emulator.aws.server.moto_server import Moto
from dyncdc.emulator.aws.server.wire import AwsError, Wire

from .export import Exports
from .item_reads import ItemReads
from .item_writes import ItemWrites
from .streaming import Streaming
from .tables import Tables

_PASSED_ON = frozenset(
    {
        "DescribeContinuousBackups",
        "DescribeEndpoints",
        "DescribeLimits",
        "DescribeTimeToLive",
        "ListTables",
        "ListTagsOfResource",
        "TagResource",
        "UntagResource",
    }
)


class DynamoDB:
    """One operation at a time by name; item operations never await, so they are atomic."""

    def __init__(
        self, tables: Tables, writes: ItemWrites, reads: ItemReads, streaming: Streaming, exports: Exports, moto: Moto
    ) -> None:
        self._tables = tables
        self._streaming = streaming
        self._moto = moto
        self._direct: dict[str, Callable[[Wire, str], Wire]] = {
            **writes.operations,
            **reads.operations,
            "EnableKinesisStreamingDestination": streaming.enable,
            "DisableKinesisStreamingDestination": streaming.disable,
            "UpdateKinesisStreamingDestination": streaming.update,
            "DescribeKinesisStreamingDestination": streaming.describe,
            "ExportTableToPointInTime": exports.start,
            "DescribeExport": exports.describe,
            "ListExports": exports.list_exports,
        }
        self._through_moto: dict[str, Callable[[Wire, str], Awaitable[Wire]]] = {
            "CreateTable": self._create_table,
            "DescribeTable": self._describe_table,
            "UpdateTable": self._update_table,
            "DeleteTable": self._delete_table,
            "UpdateTimeToLive": self._update_time_to_live,
            "UpdateContinuousBackups": self._update_continuous_backups,
        }

    async def call(self, operation: str, request: Wire, region: str) -> Wire:
        """Do one operation.

        Raises:
            AwsError: as the service would answer.
        """
        direct = self._direct.get(operation)
        if direct is not None:
            return direct(request, region)
        through = self._through_moto.get(operation)
        if through is not None:
            return await through(request, region)
        if operation in _PASSED_ON:
            return await self._moto.dynamodb(operation, request, region)
        raise AwsError("UnknownOperationException", f"The local AWS does not serve {operation}")

    async def _create_table(self, request: Wire, region: str) -> Wire:
        answer = await self._moto.dynamodb("CreateTable", request, region)
        self._tables.describe(answer["TableDescription"], region)
        return {"TableDescription": self._with_counts(answer["TableDescription"], region)}

    async def _describe_table(self, request: Wire, region: str) -> Wire:
        table = self._tables.find(request["TableName"], region)
        answer = await self._moto.dynamodb("DescribeTable", {"TableName": table.name}, region)
        return {"Table": self._with_counts(answer["Table"], region)}

    async def _update_table(self, request: Wire, region: str) -> Wire:
        answer = await self._moto.dynamodb("UpdateTable", request, region)
        self._tables.describe(answer["TableDescription"], region)
        return {"TableDescription": self._with_counts(answer["TableDescription"], region)}

    async def _delete_table(self, request: Wire, region: str) -> Wire:
        table = self._tables.find(request["TableName"], region)
        answer = await self._moto.dynamodb("DeleteTable", {"TableName": table.name}, region)
        self._tables.drop(table)
        self._streaming.forget(table)
        return answer

    async def _update_time_to_live(self, request: Wire, region: str) -> Wire:
        answer = await self._moto.dynamodb("UpdateTimeToLive", request, region)
        specification = request["TimeToLiveSpecification"]
        table = self._tables.find(request["TableName"], region)
        table.ttl_attribute = specification["AttributeName"] if specification["Enabled"] else ""
        return answer

    async def _update_continuous_backups(self, request: Wire, region: str) -> Wire:
        answer = await self._moto.dynamodb("UpdateContinuousBackups", request, region)
        enabled = request["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]
        self._tables.find(request["TableName"], region).point_in_time_recovery = enabled
        return answer

    def _with_counts(self, description: Wire, region: str) -> Wire:
        table = self._tables.find(description["TableName"], region)
        return {
            **description,
            "TableId": table.id,
            "ItemCount": table.items.count,
            "TableSizeBytes": table.items.size_bytes,
        }
