"""One small shop on both sides, DynamoDB and ClickHouse, with ways to write to each: what verification is tested on."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asynch.connection import Connection

from dyncdc.decode.table_plan import compile_table
from dyncdc.operations.verify.compare import compare_table
from dyncdc.operations.verify.destination import Destination
from dyncdc.operations.verify.result import Verification
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute, TableSpec
from dyncdc.schema.types.dynamodb_values import Item
from dyncdc.sources.dynamodb import Tables
from dyncdc.sources.item_json import sdk_key

SPEC = TableSpec(
    "shop",
    "shop",
    (KeyAttribute("pk", "S"), KeyAttribute("sk", "N")),
    (
        ColumnSpec("pk", "String", ("pk",), ("S",), key=True),
        ColumnSpec("sk", "Int64", ("sk",), ("N",), key=True),
        ColumnSpec("status", "Nullable(String)", ("status",), ("S",)),
        ColumnSpec("total", "Nullable(Decimal(38, 2))", ("total",), ("N",)),
        ColumnSpec("tags", "Array(String)", ("tags",), ("SS",)),
        ColumnSpec("ship_city", "Nullable(String)", ("ship", "city"), ("S",)),
    ),
)
CREATE = """CREATE TABLE shop (pk String, sk Int64, status Nullable(String), total Nullable(Decimal(38, 2)),
    tags Array(String), ship_city Nullable(String), _spill String, _version Int64, _deleted UInt8)
    ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY (pk, sk)"""


@dataclass
class Engines:
    """Both servers."""

    dynamodb: Any
    connection: Connection
    endpoint_url: str
    clickhouse_url: str


@dataclass
class Shop:
    """One table on both sides, with ways to write to each."""

    dynamodb: Any
    connection: Connection
    spec: TableSpec = SPEC
    version: int = 1

    async def fetch(self, query: str) -> Sequence[Sequence[object]]:
        async with self.connection.cursor() as cursor:
            await cursor.execute(query)
            return list(await cursor.fetchall())

    async def run(self, statement: str) -> None:
        async with self.connection.cursor() as cursor:
            await cursor.execute(statement)

    async def put_source(self, *items: Item, table: str = "shop") -> None:
        for item in items:
            await self.dynamodb.put_item(TableName=table, Item=for_sdk(item))

    async def put_destination(self, *items: Item, table: str = "shop") -> None:
        plan = compile_table(self.spec)
        for item in items:
            self.version += 1
            cells = plan.upsert(item, self.version).cells
            columns = b",".join(b"[%s]" % cell for cell in cells).decode()
            await self.run(f"INSERT INTO {table} ({', '.join(plan.columns)}) FORMAT JSONCompactColumns [{columns}]")

    async def put(self, *items: Item, table: str = "shop") -> None:
        await self.put_source(*items, table=table)
        await self.put_destination(*items, table=table)

    async def verify(self, table: str = "shop") -> Verification:
        result = Verification(table, table)
        await compare_table(
            Tables(self.dynamodb),
            Destination(self, self.spec),
            result,
            finds_extra_rows=True,
            pauses_seconds=(0.05, 0.05),
        )
        return result


def for_sdk(item: Item) -> dict[str, Any]:
    """Binary at the top level as bytes; there is none below in these tests."""
    found: dict[str, Any] = dict(item)
    for name, value in item.items():
        if "BS" in value:
            found[name] = {"BS": [base64.b64decode(each) for each in value["BS"]]}  # type: ignore[attr-defined]
        if "B" in value:
            found[name] = sdk_key({name: value})[name]
    return found


def json_text(text: str) -> str:
    return text.replace("\n", "\\n")


def item(pk: str, sk: int, **attributes: dict[str, object]) -> Item:
    return {"pk": {"S": pk}, "sk": {"N": str(sk)}, **attributes}
