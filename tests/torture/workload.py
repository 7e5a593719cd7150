"""Workload: the live load of one history on three tables with hot keys, bursts, re-creations, TTL and odd values."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from support.data.load import COLUMNS, Load, make_account, make_item, make_key
from support.servers.aws import Aws, Item

from .plan import Plan

PAUSE_SECONDS = 0.008
APART_SECONDS = 0.0015
"""Between two writes where duplicates are about: the same key must not tie within a millisecond."""

TTL_ATTRIBUTE = "expires"
ACCOUNTS = 80
SESSIONS = 60
KEY_SCHEMAS = {"items": {"pk": "S", "n": "N"}, "accounts": {"id": "S"}, "sessions": {"token": "B", "number": "N"}}
SESSION_COLUMNS: list[dict[str, Any]] = [
    {"attribute": "token", "type": "String", "from": "B"},
    {"attribute": "number", "type": "String", "from": "N"},
    {"attribute": "expires", "type": "Nullable(Int64)"},
    {"attribute": "state", "type": "Nullable(String)"},
    {"attribute": "data", "type": "Nullable(String)", "from": "M"},
]
TABLE_COLUMNS: dict[str, list[dict[str, Any]]] = {"items": COLUMNS, "sessions": SESSION_COLUMNS}
"""``accounts`` has none: its columns are inferred."""

NUMBERS = ("0", "-7", "12345678901234567890", "12345678901234567891", "0.1", "1E-130", "9.99E+125", "-1.50")


NAMES = [
    "a.b",
    "`",
    "'",
    "😀",
    "Name",
    "name",
    "_version",
    "_deleted",
    "_spill",
    "9",
    "",
    " ",
    "SELECT",
    "address.city",
]
HAND_MADE = ("hand_0", "hand_1", "hand_2")
"""Attributes that someone adds a column for."""
TOP_NAMES = [*(name for name in NAMES if name), *HAND_MADE]


def odd_value(rng: random.Random, *, plain: bool = False, depth: int = 0) -> dict[str, Any]:
    """Any DynamoDB value, the odd ones first of all. ``plain``: only what JSON text can say."""
    makers: dict[str, Callable[[], Any]] = {
        "S": lambda: rng.choice(
            ("", " ", "\x00", "\u2028", "😀" * 3, "'\"\\`\t\r\n", "null", "x" * rng.randrange(900))
        ),
        "N": lambda: rng.choice(
            (*NUMBERS, f"{rng.randrange(10**38)}", f"-{rng.randrange(10**9)}E-{rng.randrange(90)}")
        ),
        "BOOL": lambda: rng.random() < 0.5,
        "NULL": lambda: True,
        "L": lambda: [inner() for _ in range(rng.randrange(4))],
        "M": lambda: {name: inner() for name in rng.sample(NAMES, rng.randrange(4))},
    }
    if not plain:
        makers |= {
            "B": lambda: rng.choice((b"", b"\x00", b"\xff\xfe", rng.randbytes(rng.randrange(60)))),
            "SS": lambda: rng.sample(["", "b", "a", "ß", "B", "10", "9"], rng.randint(1, 5)),
            "NS": lambda: rng.sample(NUMBERS, rng.randint(1, 4)),
            "BS": lambda: rng.sample([b"", b"a", b"\xff", b"\x00\x01"], rng.randint(1, 3)),
        }

    def inner() -> dict[str, Any]:
        return odd_value(rng, plain=plain, depth=depth + 1)

    kinds = sorted(makers) if depth < 4 else sorted(makers.keys() - {"L", "M"})
    kind = rng.choice(kinds)
    return {kind: makers[kind]()}


def odd_item(rng: random.Random, key: Item) -> Item:
    """An item of odd names and values, over the columns as well."""
    names = rng.sample([*TOP_NAMES, "age", "price", "tags", "nums", "blob", "address", "notes"], rng.randint(1, 8))
    # what a column holds as JSON text is compared as JSON
    return {**key, **{name: odd_value(rng, plain=name == "notes") for name in names}}


def session_key(rng: random.Random) -> Item:
    """A key of binary and a number of up to 38 digits: some differ in the last digit only."""
    number = rng.randrange(SESSIONS)
    digits = ("1", "-2", "0.5", "12345678901234567890123456789012345678", "12345678901234567890123456789012345679")
    return {"token": {"B": bytes([number % 7, 0xFF, 0x00])}, "number": {"N": digits[number % len(digits)]}}


def make_session(rng: random.Random, key: Item) -> Item:
    """An item that may expire while the history lasts."""
    expires = int(time.time()) + rng.choice([0, 1, 2, 3, 3600])
    item: dict[str, Any] = {
        **key,
        "state": {"S": f"s{rng.randrange(10**6)}"},
        "data": {"M": {"x": odd_value(rng, plain=True)}},
    }
    return {**item, TTL_ATTRIBUTE: {"N": str(expires)}} if rng.random() < 0.7 else item


class Writes(Load):
    """The load of one history: three tables, odd items, and bursts where the plan has ties."""

    TABLES: ClassVar = {"items": 6, "accounts": 2, "sessions": 2}
    ACCOUNTS: ClassVar = ACCOUNTS
    SEVERAL: ClassVar = 12

    def __init__(self, aws: Aws, plan: Plan, names: dict[str, str]) -> None:
        ordered = [names[table] for table in self.TABLES]
        super().__init__(aws, *ordered, seed=f"writes {plan.seed}", keys=plan.keys, pause_seconds=PAUSE_SECONDS)
        self._plan = plan
        self._together = ThreadPoolExecutor(4, thread_name_prefix="burst")

    def stop(self) -> None:
        """Stop writing. Raises what made a write fail."""
        try:
            super().stop()
        finally:
            self._together.shutdown()

    def preload(self) -> None:
        """Write what is there before the daemon first starts."""
        rng = self._rng
        items = {str(key): make_item(rng, key) for key in (make_key(rng, self._keys) for _ in range(600))}
        self._put_all("items", list(items.values())[: self._plan.preloaded])
        if self._plan.preloaded:
            self._put_all("accounts", [make_account(rng, number) for number in range(0, ACCOUNTS, 2)])
            sessions = {str(key): make_session(rng, key) for key in (session_key(rng) for _ in range(30))}
            self._put_all("sessions", list(sessions.values()))
        else:  # inference wants to see something
            self._put("accounts", make_account(rng, 0))

    def _write_several(self, table: str, key: Item, make: Callable[[], Item], turn: float) -> int:
        if turn < 0.9 and self._plan.ties:
            return self._burst(table, key, make)
        return super()._write_several(table, key, make, turn)

    def _shape(self, table: str) -> tuple[Item, Callable[[], Item]]:
        rng = self._rng
        if table == "sessions":
            token = session_key(rng)
            return token, lambda: make_session(rng, token)
        key, make = super()._shape(table)
        if table != "items":
            return key, make
        return key, lambda: odd_item(rng, key) if rng.random() < 0.25 else make()

    def _burst(self, table: str, key: Item, make: Callable[[], Item]) -> int:
        """Change one key a few times at once; no one but DynamoDB knows in which order."""
        wanted = [make() if self._rng.random() < 0.7 else None for _ in range(4)]
        jobs = [
            self._together.submit(self._delete, table, key)
            if item is None
            else self._together.submit(self._put, table, item)
            for item in wanted
        ]
        for job in jobs:
            job.result()
        return len(jobs)

    def _written(self) -> None:
        if not self._plan.ties:
            time.sleep(APART_SECONDS)
