"""GetItem, BatchGetItem, TransactGetItems, Query, Scan: pages, segments, indexes, consumed capacity."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import orjson

from dyncdc.emulator.aws.server.settings import Settings
from dyncdc.emulator.aws.server.wire import Wire

from .conditions import condition, holds
from .expressions import Call, Literal, Node, Parser, Path, project
from .item_writes import LEGACY
from .items import Key, KeySchema, Row
from .tables import Table, Tables
from .values import invalid

READ_UNIT_BYTES = 4096
MAX_BATCH_KEYS = 100
MAX_SEGMENTS = 1_000_000


class ItemReads:
    """All operations that read items. They see a table between two writes, never inside one."""

    def __init__(self, tables: Tables, settings: Settings) -> None:
        self._tables = tables
        self._settings = settings
        self._waypoints: dict[bytes, Wire | None] = {}
        """Where a scan goes on from the keys that ``scan_nothing`` made up."""
        self.operations: dict[str, Callable[[Wire, str], Wire]] = {
            "GetItem": self.get_item,
            "BatchGetItem": self.batch_get_item,
            "TransactGetItems": self.transact_get_items,
            "Query": self.query,
            "Scan": self.scan,
        }

    def get_item(self, request: Wire, region: str) -> Wire:
        """Source: AWS GetItem."""
        _refuse_legacy(request)
        table = self._tables.find(request["TableName"], region)
        row = _row(table, request["Key"])
        answer: Wire = {}
        if row is not None:
            paths = _projection(request)
            answer["Item"] = project(paths, row.attributes) if paths else row.attributes
        _add_capacity(answer, request, table, row.size if row else 0)
        return answer

    def batch_get_item(self, request: Wire, region: str) -> Wire:
        """Source: AWS BatchGetItem. Keys that do not fit into 16 MB come back as unprocessed."""
        responses: Wire = {}
        unprocessed: Wire = {}
        total = 0
        if sum(len(one["Keys"]) for one in request["RequestItems"].values()) > MAX_BATCH_KEYS:
            raise invalid("Too many items requested for the BatchGetItem call")
        for name, wanted in request["RequestItems"].items():
            table = self._tables.find(name, region)
            paths = _projection(wanted)
            found = responses.setdefault(name, [])
            for key in wanted["Keys"]:
                row = _row(table, key)
                if row is None:
                    continue
                total += row.size
                if total > 16 * 1024 * 1024:
                    unprocessed.setdefault(name, {**wanted, "Keys": []})["Keys"].append(key)
                    continue
                found.append(project(paths, row.attributes) if paths else row.attributes)
        return {"Responses": responses, "UnprocessedKeys": unprocessed}

    def transact_get_items(self, request: Wire, region: str) -> Wire:
        """Source: AWS TransactGetItems."""
        return {"Responses": [self.get_item(entry["Get"], region) for entry in request["TransactItems"]]}

    def scan(self, request: Wire, region: str) -> Wire:
        """Source: AWS Scan, with parallel segments."""
        _refuse_legacy(request)
        table = self._tables.find(request["TableName"], region)
        segment, segments = request.get("Segment", 0), request.get("TotalSegments", 1)
        if not 1 <= segments <= MAX_SEGMENTS or not 0 <= segment < segments:
            raise invalid("The Segment parameter is zero-based and must be less than parameter TotalSegments")
        start = self._waypoints.get(_text(request.get("ExclusiveStartKey")), request.get("ExclusiveStartKey"))
        if request.get("IndexName"):
            rows = _index_rows(table, request["IndexName"], None, start, backward=False)
        else:
            rows = table.items.scan(_start(table, start), segment, segments)
        return self._page(table, rows, request, None)

    def scan_nothing(self, request: Wire, region: str) -> Wire:
        """Return a page without items, but with a key to go on from: no item's, it means the place asked for."""
        table = self._tables.find(request["TableName"], region)
        start = request.get("ExclusiveStartKey")
        number = len(self._waypoints)
        contents = {"S": f"waypoint {number}", "N": f"-{number}E100", "B": f"{number:04}"}
        schema = table.items.schema
        waypoint = {name: {kind: contents[kind]} for name, kind in zip(schema.names, schema.types, strict=True)}
        self._waypoints[_text(waypoint)] = self._waypoints.get(_text(start), start)
        answer: Wire = {"Count": 0, "ScannedCount": 0, "Items": [], "LastEvaluatedKey": waypoint}
        _add_capacity(answer, request, table, 0)
        return answer

    def query(self, request: Wire, region: str) -> Wire:
        """Source: AWS Query, on the table or one of its indexes. Indexes project everything."""
        _refuse_legacy(request)
        table = self._tables.find(request["TableName"], region)
        tree = condition(request.get("KeyConditionExpression"), request)
        if tree is None:
            raise invalid(
                "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request."
            )
        backward = not request.get("ScanIndexForward", True)
        start = request.get("ExclusiveStartKey")
        name = request.get("IndexName")
        schema = _index(table, name) if name else table.items.schema
        hashed = schema.names[0]
        value = _equal_to(tree, hashed)
        if value is None:
            raise invalid(f"Query condition missed key schema element: {hashed}")
        first = KeySchema(schema.names[:1], schema.types[:1]).key({hashed: value})
        if name:
            rows = _index_rows(table, name, first.digest, start, backward=backward)
        else:
            rows = table.items.query(first.digest, _start(table, start), backward=backward)
        return self._page(table, (row for row in rows if holds(tree, row.attributes)), request, schema)

    def _page(self, table: Table, rows: Iterator[Row], request: Wire, schema: KeySchema | None) -> Wire:
        """Read one page: at most Limit rows or 1 MB, before the filter. A page that ends at Limit always names its last
        key, even if nothing follows: the service does not look."""
        limit, accept, paths = (
            request.get("Limit"),
            condition(request.get("FilterExpression"), request),
            _projection(request),
        )
        kept: list[Wire] = []
        size = scanned = 0
        last: Row | None = None
        more = False
        for row in rows:
            if last is not None and size + row.size > self._settings.page_bytes:
                more = True
                break
            size, scanned, last = size + row.size, scanned + 1, row
            if holds(accept, row.attributes):
                kept.append(project(paths, row.attributes) if paths else row.attributes)
            if limit is not None and scanned >= limit:
                more = True
                break
        answer: Wire = {"Count": len(kept), "ScannedCount": scanned}
        if request.get("Select") != "COUNT":
            answer["Items"] = kept
        if more and last is not None:
            names = {*table.items.schema.names, *(schema.names if schema else ())}
            if request.get("IndexName"):
                names |= {*_index(table, request["IndexName"]).names}
            answer["LastEvaluatedKey"] = {name: last.attributes[name] for name in names}
        _add_capacity(answer, request, table, size)
        return answer


def _refuse_legacy(request: Wire) -> None:
    for name in LEGACY:
        if name in request:
            raise invalid(f"The local AWS does not serve the legacy parameter {name}; use an expression")


def _row(table: Table, key: Wire) -> Row | None:
    table.items.schema.check_exact(key)
    return table.items.get(table.items.schema.key(key))


def _text(key: Wire | None) -> bytes:
    return orjson.dumps(key, option=orjson.OPT_SORT_KEYS)


def _start(table: Table, key: Wire | None) -> Key | None:
    return table.items.schema.key(key) if key else None


def _projection(request: Wire) -> list[Path]:
    text = request.get("ProjectionExpression")
    return Parser(text, request.get("ExpressionAttributeNames"), None).paths() if text else []


def _equal_to(tree: Node, name: str) -> Wire | None:
    """Return the value that a key condition asks of the hash key."""
    if not isinstance(tree, Call):
        return None
    if tree.name == "AND":
        return _equal_to(tree.arguments[0], name) or _equal_to(tree.arguments[1], name)
    if tree.name == "=" and tree.arguments[0] == Path((name,)) and isinstance(tree.arguments[1], Literal):
        return tree.arguments[1].value
    return None


def _index(table: Table, name: str) -> KeySchema:
    schema = table.indexes.get(name)
    if schema is None:
        raise invalid(f"The table does not have the specified index: {name}")
    return schema


def _index_rows(table: Table, name: str, digest: bytes | None, start: Wire | None, *, backward: bool) -> Iterator[Row]:
    """Iterate over an index: sorted again each time, since the kit is for small tables."""
    schema = _index(table, name)
    placed = []
    for row in table.items.rows():
        if not all(kind in row.attributes.get(one, {}) for one, kind in zip(schema.names, schema.types, strict=True)):
            continue
        key = schema.key(row.attributes)
        if digest is None or key.digest == digest:
            placed.append((key.place, row.key.place, row))
    placed.sort(key=lambda one: one[:2], reverse=backward)
    if not start:
        return iter([row for _index_place, _place, row in placed])
    after = (schema.key(start).place, table.items.schema.key(start).place)
    return iter([one[2] for one in placed if (one[:2] < after if backward else one[:2] > after)])


def _add_capacity(answer: Wire, request: Wire, table: Table, size: int) -> None:
    if request.get("ReturnConsumedCapacity", "NONE") == "NONE":
        return
    units = max(1, -(-size // READ_UNIT_BYTES)) * (1.0 if request.get("ConsistentRead") else 0.5)
    answer["ConsumedCapacity"] = {"TableName": table.name, "CapacityUnits": units}
