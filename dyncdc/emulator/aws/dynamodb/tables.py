"""Which tables exist, and what the item operations must know of each. Descriptions and tags stay with moto."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field

from dyncdc.emulator.aws.server.wire import ACCOUNT, AwsError, Wire

from .items import Items, KeySchema


@dataclass(slots=True)
class Table:
    """One table: its items, its secondary indexes, and the switches that change what happens to items."""

    name: str
    region: str
    items: Items
    indexes: dict[str, KeySchema] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: float = field(default_factory=time.time)
    ttl_attribute: str = ""
    point_in_time_recovery: bool = False

    @property
    def arn(self) -> str:
        """Return the table's ARN."""
        return f"arn:aws:dynamodb:{self.region}:{ACCOUNT}:table/{self.name}"


class Tables:
    """All tables of all regions."""

    def __init__(self) -> None:
        self._tables: dict[str, Table] = {}

    def all(self) -> list[Table]:
        """Return every table."""
        return list(self._tables.values())

    def find(self, name_or_arn: str, region: str) -> Table:
        """Return a table by its name or ARN.

        Raises:
            AwsError: ResourceNotFoundException.
        """
        arn = (
            name_or_arn
            if name_or_arn.startswith("arn:")
            else f"arn:aws:dynamodb:{region}:{ACCOUNT}:table/{name_or_arn}"
        )
        table = self._tables.get(arn)
        if table is None:
            raise AwsError("ResourceNotFoundException", "Requested resource not found")
        return table

    def describe(self, description: Wire, region: str) -> None:
        """Take over a table as moto describes it: a new one, or other indexes."""
        types = {one["AttributeName"]: one["AttributeType"] for one in description["AttributeDefinitions"]}
        table = self._tables.get(description["TableArn"])
        if table is None:
            items = Items(_schema(description["KeySchema"], types))
            table = Table(description["TableName"], region, items)
            self._tables[table.arn] = table
        indexes = [*description.get("GlobalSecondaryIndexes", []), *description.get("LocalSecondaryIndexes", [])]
        table.indexes = {one["IndexName"]: _schema(one["KeySchema"], types) for one in indexes}

    def drop(self, table: Table) -> None:
        """Forget a table and its items."""
        del self._tables[table.arn]


def _schema(elements: list[Wire], types: dict[str, str]) -> KeySchema:
    names = sorted(elements, key=lambda one: str(one["KeyType"]))  # HASH before RANGE
    ordered = tuple(one["AttributeName"] for one in names)
    return KeySchema(ordered, tuple(types[name] for name in ordered))
