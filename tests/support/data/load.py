"""A live write load: inserts, updates, deletes, re-creations and hot keys of items with every kind of value. Seeded."""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

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


class BackgroundWrites(ABC):
    """Writes from a thread while no one holds ``pause``. ``with`` starts and stops it; a failed write fails a test."""

    def __init__(self, pause_seconds: float) -> None:
        self._pause_seconds = pause_seconds
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self.pause = threading.Lock()
        self.changes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop writing. Raises what made a write fail."""
        self._stop.set()
        self._thread.join(30)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                with self.pause:
                    self.changes += self._turn()
                time.sleep(self._pause_seconds)
        except BaseException as error:
            self._failure = error

    @abstractmethod
    def _turn(self) -> int:
        """A write or a few; return how many."""


class Load(BackgroundWrites):
    """Writes ``make_item`` and ``make_account`` to two tables. ``names``: of ``TABLES``, in their order."""

    TABLES: ClassVar[Mapping[str, int]] = {"items": 9, "accounts": 1}
    """How often each is written to."""
    ACCOUNTS: ClassVar = 60
    SEVERAL: ClassVar = 8
    """Items of one batch."""

    def __init__(self, aws: Aws, *names: str, seed: int | str, keys: int, pause_seconds: float) -> None:
        super().__init__(pause_seconds)
        self._aws = aws
        self._names = dict(zip(self.TABLES, names, strict=True))
        self._rng = random.Random(seed)
        self._keys = keys

    def _turn(self) -> int:
        rng = self._rng
        table = rng.choices(list(self.TABLES), list(self.TABLES.values()))[0]
        key, make = self._shape(table)
        turn = rng.random()
        if turn < 0.35:
            self._put(table, make())
            return 1
        if turn < 0.5 and table == "items":
            self._update(key)
            return 1
        if turn < 0.65:
            self._delete(table, key)
            return 1
        if turn < 0.78:
            self._delete(table, key)
            self._put(table, make())
            return 2
        return self._write_several(table, key, make, turn)

    def _write_several(self, table: str, key: Item, make: Callable[[], Item], turn: float) -> int:
        """The turns above 0.78."""
        keys = {str(one): item for one, item in (self._fresh(table) for _ in range(self.SEVERAL))}
        self._put_all(table, list(keys.values()))
        return len(keys)

    def _shape(self, table: str) -> tuple[Item, Callable[[], Item]]:
        """A key of the table, and what makes its item."""
        rng = self._rng
        if table == "items":
            key = make_key(rng, self._keys)
            return key, lambda: make_item(rng, key)
        number = rng.randrange(self.ACCOUNTS)
        return {"id": {"S": f"account-{number}"}}, lambda: make_account(rng, number)

    def _fresh(self, table: str) -> tuple[Item, Item]:
        key, make = self._shape(table)
        return key, make()

    def _put(self, table: str, item: Item) -> None:
        self._aws.put(self._names[table], item)
        self._written()

    def _put_all(self, table: str, items: list[Item]) -> None:
        self._aws.put_all(self._names[table], items)
        self._written()

    def _delete(self, table: str, key: Item) -> None:
        self._aws.dynamodb.delete_item(TableName=self._names[table], Key=key)
        self._written()

    def _update(self, key: Item) -> None:
        self._aws.dynamodb.update_item(
            TableName=self._names["items"],
            Key=key,
            UpdateExpression="SET age = :age, first_name = :name REMOVE price",
            ExpressionAttributeValues={
                ":age": {"N": str(self._rng.randrange(400))},
                ":name": {"S": f"u{self._rng.random()}"},
            },
        )
        self._written()

    def _written(self) -> None:
        """After each call."""
