"""The live load: inserts, updates, deletes and items that expire by themselves, at a steady rate, from a seed.

It remembers which keys exist only to choose the next write. Nothing is ever compared with this memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from random import Random

from dyncdc.schema.types.dynamodb_values import Item

from .dynamodb import DynamoDBWriter
from .sample_data import CUSTOMERS_TABLE, ORDERS_TABLE, OrderSystem, customer_key, order_key

TICK_SECONDS = 0.05
MOST_AT_ONCE = 32
DRAFT_LIVES_SECONDS = 3
EXPIRY_WAIT_SECONDS = 15.0
EXPIRY_POLL_SECONDS = 0.25


@dataclass(slots=True)
class LoadCounts:
    """Changes that DynamoDB has acknowledged. ``expired``: deletes made by DynamoDB itself, seen to have happened."""

    inserts: int = 0
    updates: int = 0
    deletes: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        """All changes."""
        return self.inserts + self.updates + self.deletes + self.expired


@dataclass(slots=True)
class LiveLoad:
    """Changes a filled order system. ``orders`` are the (customer, number) that exist at the start."""

    system: OrderSystem
    writer: DynamoDBWriter
    customers: int
    orders: list[tuple[int, int]]
    counts: LoadCounts = field(default_factory=LoadCounts)
    _random: Random = field(init=False)
    _next_number: int = field(init=False)
    _revision: int = 0
    _drafts: list[Item] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = self.system.random("load")
        self._next_number = 1 + max((number for _, number in self.orders), default=0)

    async def run(self, rate: float, seconds: float) -> None:
        """Write about ``rate`` changes a second for ``seconds``; slower if DynamoDB does not keep up."""
        loop = asyncio.get_running_loop()
        begun, done = loop.time(), 0
        while (elapsed := loop.time() - begun) < seconds:
            owed = min(int(elapsed * rate) - done, MOST_AT_ONCE)
            if owed > 0:
                done += owed
                async with asyncio.TaskGroup() as group:
                    for number in range(owed):
                        group.create_task(self._write(seconds - elapsed), name=f"load:{number}")
            else:
                await asyncio.sleep(TICK_SECONDS)

    async def expiries_happened(self) -> None:
        """Wait, within bounds, until DynamoDB has deleted every draft, and count them."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + EXPIRY_WAIT_SECONDS
        while True:
            left = await self.writer.existing(ORDERS_TABLE, self._drafts)
            self.counts.expired = len(self._drafts) - left
            if not left or loop.time() > deadline:
                return
            await asyncio.sleep(EXPIRY_POLL_SECONDS)

    def _write(self, remaining_seconds: float) -> Coroutine[None, None, None]:
        """Choose the next write."""
        chance = self._random.random()
        if chance < 0.07 and remaining_seconds > DRAFT_LIVES_SECONDS:
            return self._draft()
        if chance < 0.35 or not self.orders:
            return self._insert()
        if chance < 0.50:
            return self._delete()
        self._revision += 1
        if chance < 0.60:
            return self._update_customer(self._random.randrange(self.customers), self._revision)
        return self._update_order(*self._random.choice(self.orders), self._revision, whole=chance < 0.80)

    def _new_key(self) -> tuple[int, int]:
        self._next_number += 1
        return self._random.randrange(self.customers), self._next_number

    async def _insert(self) -> None:
        customer, number = self._new_key()
        await self.writer.put(ORDERS_TABLE, self.system.order(customer, number))
        self.orders.append((customer, number))
        self.counts.inserts += 1

    async def _draft(self) -> None:
        customer, number = self._new_key()
        expires_at = int(time.time()) + self._random.randrange(1, DRAFT_LIVES_SECONDS)
        self._drafts.append(order_key(customer, number))
        await self.writer.put(ORDERS_TABLE, self.system.draft(customer, number, expires_at))
        self.counts.inserts += 1

    async def _update_order(self, customer: int, number: int, revision: int, *, whole: bool) -> None:
        state = self.system.order(customer, number, revision)
        if whole:
            await self.writer.put(ORDERS_TABLE, state)
        else:
            changed = {name: state[name] for name in ("status", "total", "shipping")}
            await self.writer.set_attributes(ORDERS_TABLE, order_key(customer, number), changed, remove=["note"])
        self.counts.updates += 1

    async def _update_customer(self, number: int, revision: int) -> None:
        if revision % 2:
            await self.writer.put(CUSTOMERS_TABLE, self.system.customer(number, revision))
        else:
            state = self.system.customer(number, revision)
            changed = {name: state[name] for name in ("address", "loyalty_points")}
            await self.writer.set_attributes(CUSTOMERS_TABLE, customer_key(number), changed, remove=["interests"])
        self.counts.updates += 1

    async def _delete(self) -> None:
        index = self._random.randrange(len(self.orders))
        self.orders[index], self.orders[-1] = self.orders[-1], self.orders[index]
        customer, number = self.orders.pop()
        key = order_key(customer, number)
        comes_back = self._random.random() < 0.1
        await self.writer.delete(ORDERS_TABLE, key)
        self.counts.deletes += 1
        if comes_back:
            await self.writer.put(ORDERS_TABLE, self.system.order(customer, number, self._revision))
            self.orders.append((customer, number))
            self.counts.inserts += 1
