"""A live write load: inserts, updates, deletes, re-creations and hot keys of items with every kind of value. Seeded."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from support.servers.aws import Aws, Item

HOT_KEYS = 4
HOT_SHARE = 0.3

COLUMNS: list[dict[str, Any]] = [
    {"attribute": "pk", "type": "String"},
    {"attribute": "n", "type": "Int64"},
    {"attribute": "first_name", "type": "Nullable(String)"},
    {"attribute": "age", "type": "Nullable(Int8)"},
    {"attribute": "price", "type": "Nullable(Decimal(18, 4))"},
    {"attribute": "active", "type": "Nullable(Bool)"},
    {"attribute": "blob", "type": "Nullable(String)", "from": "B"},
    {"attribute": "tags", "type": "Array(String)"},
    {"attribute": "nums", "type": "Array(Int64)"},
    {"attribute": "address.city", "type": "Nullable(String)"},
    {"attribute": "address.geo.lat", "type": "Nullable(Decimal(9, 6))"},
    {"attribute": "notes", "type": "Nullable(String)", "from": "L"},
]
"""``[[tables.columns]]`` of the table that ``make_item`` fills: for some of its values there is room, for some not."""


def make_key(rng: random.Random, keys: int) -> Item:
    """A key of HASH ``pk`` and RANGE ``n``; some are hot."""
    number = rng.randrange(HOT_KEYS) if rng.random() < HOT_SHARE else rng.randrange(keys)
    return {"pk": {"S": f"customer-{number % 97}"}, "n": {"N": str(number // 97 - 3)}}


def make_item(rng: random.Random, key: Item) -> Item:
    """An item with some of the attributes, each of which now and then does not fit its column."""
    values: dict[str, Callable[[], dict[str, Any]]] = {
        "first_name": lambda: rng.choice(({"S": "Zoë 😀"}, {"S": ""}, {"S": "a\n\"b\\'"}, {"NULL": True}, {"N": "26"})),
        "age": lambda: {"N": rng.choice(("0", "44", "-128", "300", "12.7", "1E2"))},
        "price": lambda: {"N": rng.choice(("0.1", "99999999999999.9999", "1.23456", f"{rng.random():.4f}", "1E-130"))},
        "active": lambda: {"BOOL": rng.random() < 0.5},
        "blob": lambda: {"B": rng.randbytes(rng.randrange(40))},
        "tags": lambda: {"SS": rng.sample(["a", "b", "ä", "'", "\\", "long " * 9], rng.randint(1, 6))},
        "nums": lambda: {"NS": rng.sample(["1", "-5", str(2**63 - 1), str(2**63)], rng.randint(1, 3))},
        "address": lambda: _address(rng),
        "notes": lambda: {"L": [{"S": "x"}, {"N": "1.5"}, {"BOOL": True}, {"M": {}}][: rng.randrange(5)]},
        "memo": lambda: rng.choice(
            ({"S": "free"}, {"N": "12345678901234567890123456789012345678"}, {"M": {"deep": {"L": [{"NULL": True}]}}})
        ),
        "padding": lambda: {"S": "p" * rng.randrange(400)},
    }
    chosen = rng.sample(sorted(values), rng.randint(2, len(values)))
    return {**key, **{name: values[name]() for name in chosen}}


def _address(rng: random.Random) -> dict[str, Any]:
    city = {"city": {"S": rng.choice(("Rome", "Łódź"))}}
    geo = {"geo": {"M": {"lat": {"N": rng.choice(("41.902782", "-0.5", "1.23456789"))}}}}
    return {"M": rng.choice(({}, city, city | geo, geo, {"city": {"N": "7"}}, city | {"zip": {"S": "00184"}}))}


def make_account(rng: random.Random, number: int) -> Item:
    """An item of a plain second table, keyed by HASH ``id`` alone."""
    return {
        "id": {"S": f"account-{number}"},
        "balance": {"N": f"{rng.randrange(10**6) / 100:.2f}"},
        "owner": {"M": {"name": {"S": f"owner {rng.randrange(50)}"}, "vip": {"BOOL": rng.random() < 0.1}}},
        "visits": {"N": str(rng.randrange(1000))},
    }


class Load:
    """Writes to two tables from a thread. ``with`` starts and stops it; a failed write fails the test."""

    def __init__(self, aws: Aws, items: str, accounts: str, *, seed: int, keys: int, pause_seconds: float) -> None:
        self._aws = aws
        self._items = items
        self._accounts = accounts
        self._rng = random.Random(seed)
        self._keys = keys
        self._pause_seconds = pause_seconds
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self.changes = 0

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop writing. Raises what made a write fail."""
        self._stop.set()
        self._thread.join(20)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.changes += self._write()
                time.sleep(self._pause_seconds)
        except BaseException as error:
            self._failure = error

    def _write(self) -> int:
        """One turn: a write or a few; return how many."""
        rng, dynamodb = self._rng, self._aws.dynamodb
        key = make_key(rng, self._keys)
        turn = rng.random()
        if turn < 0.35:
            dynamodb.put_item(TableName=self._items, Item=make_item(rng, key))
            return 1
        if turn < 0.5:
            dynamodb.update_item(
                TableName=self._items,
                Key=key,
                UpdateExpression="SET age = :age, first_name = :name REMOVE price",
                ExpressionAttributeValues={":age": {"N": str(rng.randrange(400))}, ":name": {"S": f"u{rng.random()}"}},
            )
            return 1
        if turn < 0.65:
            dynamodb.delete_item(TableName=self._items, Key=key)
            return 1
        if turn < 0.75:
            dynamodb.delete_item(TableName=self._items, Key=key)
            dynamodb.put_item(TableName=self._items, Item=make_item(rng, key))
            return 2
        if turn < 0.9:
            keys = {str(one): one for one in (make_key(rng, self._keys) for _ in range(12))}
            self._aws.put_all(self._items, [make_item(rng, one) for one in keys.values()])
            return len(keys)
        account = make_account(rng, rng.randrange(60))
        if turn < 0.97:
            dynamodb.put_item(TableName=self._accounts, Item=account)
        else:
            dynamodb.delete_item(TableName=self._accounts, Key={"id": account["id"]})
        return 1
