"""PutItem, UpdateItem, DeleteItem, BatchWriteItem, TransactWriteItems, and expiry.

Each runs without a pause: the write and its change record are one step, so a stream has the order of the writes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from dyncdc.emulator.aws.server.wire import AwsError, Wire

from .conditions import condition, holds
from .items import Key, Row
from .streaming import TTL_IDENTITY, Streaming
from .tables import Table, Tables
from .updates import actions, apply, touched
from .values import canonical_item, invalid

LEGACY = (
    "Expected",
    "AttributeUpdates",
    "ConditionalOperator",
    "KeyConditions",
    "QueryFilter",
    "ScanFilter",
    "AttributesToGet",
)
MAX_BATCH = 25
MAX_TRANSACTION = 100
TOKEN_SECONDS = 600.0
OLDEST_TTL_SECONDS = 5 * 365 * 86400


class ConditionFailed(Exception):
    """The condition of a write does not hold; carries what is stored instead."""

    def __init__(self, row: Row | None) -> None:
        super().__init__()
        self.row = row


@dataclass(frozen=True, slots=True)
class _Write:
    """A write that has been checked and can no longer fail. ``new`` None deletes."""

    table: Table
    key: Key
    old: Row | None
    new: Row | None


class ItemWrites:
    """All operations that change items."""

    def __init__(self, tables: Tables, streaming: Streaming) -> None:
        self._tables = tables
        self._streaming = streaming
        self._transactions: dict[str, tuple[float, bytes]] = {}
        self.operations: dict[str, Callable[[Wire, str], Wire]] = {
            "PutItem": lambda request, region: self._single("Put", request, region),
            "UpdateItem": lambda request, region: self._single("Update", request, region),
            "DeleteItem": lambda request, region: self._single("Delete", request, region),
            "BatchWriteItem": self.batch_write_item,
            "TransactWriteItems": self.transact_write_items,
        }

    def batch_write_item(self, request: Wire, region: str) -> Wire:
        """Source: AWS BatchWriteItem. Everything is accepted; faults are for the control API."""
        writes: list[_Write] = []
        for name, entries in request["RequestItems"].items():
            for entry in entries:
                ((kind, content),) = entry.items()
                action = {"TableName": name, **content}
                writes.append(self._prepare(kind.removesuffix("Request"), action, region))
        if not 1 <= len(writes) <= MAX_BATCH:
            raise invalid("Too many items requested for the BatchWriteItem call")
        if len({(write.table.arn, write.key) for write in writes}) != len(writes):
            raise invalid("Provided list of item keys contains duplicates")
        for write in writes:
            self._commit(write)
        answer: Wire = {"UnprocessedItems": {}}
        if request.get("ReturnConsumedCapacity", "NONE") != "NONE":
            names = {write.table.name for write in writes}
            answer["ConsumedCapacity"] = [
                _capacity(name, [write for write in writes if write.table.name == name]) for name in names
            ]
        return answer

    def transact_write_items(self, request: Wire, region: str) -> Wire:
        """Source: AWS TransactWriteItems: all or none, idempotent by ClientRequestToken for ten minutes."""
        entries = request["TransactItems"]
        if not 1 <= len(entries) <= MAX_TRANSACTION:
            raise invalid("Member must have length less than or equal to 100")
        if self._repeated(request):
            return {}
        writes: list[_Write] = []
        reasons: list[Wire] = []
        for entry in entries:
            ((kind, action),) = entry.items()
            try:
                writes.append(self._prepare(kind, action, region))
                reasons.append({"Code": "None"})
            except ConditionFailed as failed:
                reasons.append(_reason(failed, action))
        if any(reason["Code"] != "None" for reason in reasons):
            codes = ", ".join(reason["Code"] for reason in reasons)
            message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
            raise AwsError("TransactionCanceledException", message, CancellationReasons=reasons, Message=message)
        if len({(write.table.arn, write.key) for write in writes}) != len(writes):
            raise invalid("Transaction request cannot include multiple operations on one item")
        for write, entry in zip(writes, entries, strict=True):
            if "ConditionCheck" not in entry:
                self._commit(write)
        self._remember(request)
        return {}

    def expire(self, now: float) -> int:
        """Delete what has expired in all tables, as the service does it; return how many items."""
        count = 0
        for table in self._tables.all():
            if not table.ttl_attribute:
                continue
            for row in [row for row in table.items.rows() if _expired(row, table.ttl_attribute, now)]:
                table.items.delete(row.key)
                self._streaming.emit(table, row, None, TTL_IDENTITY)
                count += 1
        return count

    def _single(self, kind: str, request: Wire, region: str) -> Wire:
        try:
            write = self._prepare(kind, request, region)
        except ConditionFailed as failed:
            item = _shown(failed, request)
            raise AwsError("ConditionalCheckFailedException", "The conditional request failed", **item) from None
        self._commit(write)
        answer = _returned(write, request)
        if request.get("ReturnConsumedCapacity", "NONE") != "NONE":
            answer["ConsumedCapacity"] = _capacity(write.table.name, [write])
        return answer

    def _prepare(self, kind: str, action: Wire, region: str) -> _Write:
        legacy = [name for name in LEGACY if name in action]
        if legacy:
            raise invalid(f"The local AWS does not serve the legacy parameter {legacy[0]}; use an expression")
        table = self._tables.find(action["TableName"], region)
        schema = table.items.schema
        item, size = canonical_item(action["Item"]) if kind == "Put" else (action["Key"], 0)
        if kind != "Put":
            schema.check_exact(item)
        key = schema.key(item)
        old = table.items.get(key)
        if not holds(condition(action.get("ConditionExpression"), action), old.attributes if old else {}):
            raise ConditionFailed(old)
        if kind == "Update":
            before = old.attributes if old else canonical_item(item)[0]
            item, size = canonical_item(apply(actions(action), before, schema.names))
        return _Write(table, key, old, None if kind in ("Delete", "ConditionCheck") else Row(key, item, size))

    def _commit(self, write: _Write) -> None:
        items = write.table.items
        old = items.delete(write.key) if write.new is None else items.put(write.new)
        self._streaming.emit(write.table, old, write.new)

    def _repeated(self, request: Wire) -> bool:
        token = request.get("ClientRequestToken")
        known = self._transactions.get(token) if token else None
        if known is None or time.time() - known[0] > TOKEN_SECONDS:
            return False
        if known[1] != _fingerprint(request):
            raise AwsError("IdempotentParameterMismatchException", "The token was used with other parameters")
        return True

    def _remember(self, request: Wire) -> None:
        token = request.get("ClientRequestToken")
        if not token:
            return
        now = time.time()
        self._transactions[token] = (now, _fingerprint(request))
        if len(self._transactions) > 10_000:
            self._transactions = {k: v for k, v in self._transactions.items() if now - v[0] < TOKEN_SECONDS}


def _fingerprint(request: Wire) -> bytes:
    return hashlib.sha256(orjson.dumps(request["TransactItems"], option=orjson.OPT_SORT_KEYS)).digest()


def _expired(row: Row, attribute: str, now: float) -> bool:
    """Whether a row is past its time. Source: AWS TTL: numbers only, nothing older than five years."""
    text = row.attributes.get(attribute, {}).get("N")
    if text is None or "." in text or len(text) > 11:
        return False
    return now - OLDEST_TTL_SECONDS < int(text) <= now


def _shown(failed: ConditionFailed, action: Wire) -> Wire:
    wanted = action.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
    return {"Item": failed.row.attributes} if wanted and failed.row is not None else {}


def _reason(failed: ConditionFailed, action: Wire) -> Wire:
    return {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed", **_shown(failed, action)}


def _returned(write: _Write, request: Wire) -> Wire:
    wanted = request.get("ReturnValues", "NONE")
    row = write.new if wanted.endswith("_NEW") else write.old
    if wanted == "NONE" or row is None:
        return {}
    attributes = row.attributes
    if wanted.startswith("UPDATED_"):
        names = touched(actions(request))
        attributes = {name: value for name, value in attributes.items() if name in names}
    return {"Attributes": attributes} if attributes else {}


def _capacity(name: str, writes: list[_Write]) -> Wire:
    """Return the write units of some writes to one table: one for each KB of the larger of old and new item."""
    sizes = [max(row.size if row else 1 for row in (write.old, write.new)) for write in writes]
    return {"TableName": name, "CapacityUnits": float(sum(-(-size // 1024) for size in sizes))}
