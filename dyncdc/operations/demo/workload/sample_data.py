"""An order system's items, made from a seed: the same seed, key and revision give the same item. No I/O, no clock.

Between them the items hold every DynamoDB type, and the values that break careless mappings.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from dyncdc.schema.types.dynamodb_values import Item, TypedValue

CUSTOMERS_TABLE: Final = "customers"
ORDERS_TABLE: Final = "orders"
TTL_ATTRIBUTE: Final = "expires_at"

FIRST_ORDER_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_STATUSES: Final = ("placed", "paid", "packed", "shipped", "delivered", "returned")
_CURRENCIES: Final = ("EUR", "USD", "SEK", "JPY")
_FIRST_NAMES: Final = ("Ada", "Grace", "Zoë", "Søren", "Ngozi", "明", "Iñigo", "Ольга", "Fatima", "Lars")
_LAST_NAMES: Final = ("Okafor", "Lindqvist", "O'Neill", "de la Cruz", "Müller", "田中", "Haddad", "Nowak")
_CITIES: Final = (
    ("Malmö", "SE"),
    ("Kraków", "PL"),
    ("São Paulo", "BR"),
    ("京都", "JP"),
    ("Lagos", "NG"),
    ("Cork", "IE"),
)
_PRODUCTS: Final = ("kettle", "lamp", "notebook", "bicycle bell", "tea towel", "desk", "wool blanket", "espresso cup")
_LABELS: Final = ("gift", "express", "fragile", "b2b", "repeat", "☂ weather", "two words")
_NOTES: Final[tuple[TypedValue | None, ...]] = (
    None,
    None,
    {"S": ""},
    {"NULL": True},
    {"S": "ring twice"},
    {"S": "line one\nline two\ttab"},
    {"S": 'it\'s "quoted" \\ 100% 🫖'},
)
"""Absent, empty, NULL and text are four different things."""


def customer_key(number: int) -> Item:
    """Return the primary key of customer ``number``."""
    return {"customer_id": {"S": f"c-{number:05d}"}}


def order_key(customer: int, number: int) -> Item:
    """Return the primary key of a customer's order ``number``."""
    return {**customer_key(customer), "order_number": {"N": str(number)}}


class OrderSystem:
    """Makes customers and orders. ``revision`` distinguishes the states that one item goes through."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def random(self, *parts: object) -> Random:
        """Return a random source that depends on the seed and ``parts`` only."""
        return Random(f"{self._seed}/{'/'.join(map(str, parts))}")  # noqa: S311 - data for a show, not a secret

    def customer(self, number: int, revision: int = 0) -> Item:
        """Return one customer."""
        random = self.random("customer", number, revision)
        item: Item = {
            **customer_key(number),
            "name": {"S": f"{random.choice(_FIRST_NAMES)} {random.choice(_LAST_NAMES)}"},
            "address": _address(random),
            "loyalty_points": {"N": str(random.randrange(0, 100_000))},
            "newsletter": {"BOOL": random.random() < 0.5},
            "avatar": {"B": _binary(random, random.randrange(0, 24))},
            "credit_limit": {"N": _money(random, 5)},
        }
        if random.random() < 0.7:
            item["interests"] = {"SS": random.sample(_PRODUCTS, random.randrange(1, 4))}
        if random.random() < 0.1:
            item["referred_by"] = {"NULL": True} if random.random() < 0.5 else {"S": f"c-{random.randrange(1000):05d}"}
        return item

    def order(self, customer: int, number: int, revision: int = 0) -> Item:
        """Return one order with its lines."""
        random = self.random("order", customer, number, revision)
        lines = [_line(random) for _ in range(random.randrange(1, 4))]
        placed = FIRST_ORDER_AT + timedelta(seconds=random.randrange(0, 30_000_000))
        item: Item = {
            **order_key(customer, number),
            "status": {"S": _STATUSES[min(revision, 2) + random.randrange(0, 4)]},
            "placed_at": {"S": placed.strftime("%Y-%m-%dT%H:%M:%SZ")},
            "total": {"N": _money(random, 4)},
            "currency": {"S": random.choice(_CURRENCIES)},
            "items": {"L": lines},
            "shipping": _address(random),
            "gift": {"BOOL": random.random() < 0.2},
        }
        note = random.choice(_NOTES)
        if note is not None:
            item["note"] = note
        self._add_rarities(item, random)
        return item

    def draft(self, customer: int, number: int, expires_at: int) -> Item:
        """Return an order that was never placed: DynamoDB deletes it itself at ``expires_at`` (epoch seconds)."""
        return {
            **order_key(customer, number),
            "status": {"S": "draft"},
            "items": {"L": [_line(self.random("draft", customer, number))]},
            TTL_ATTRIBUTE: {"N": str(expires_at)},
        }

    def _add_rarities(self, item: Item, random: Random) -> None:
        """Add what only some orders have: sets, binary, 38 digits, empty containers, one name of two types."""
        chance = random.random
        if chance() < 0.4:
            item["labels"] = {"SS": random.sample(_LABELS, random.randrange(1, 4))}
        if chance() < 0.2:
            item["coupons"] = {"NS": [_money(random, 2), "-0.5", "1E+3"][: random.randrange(1, 4)]}
        if chance() < 0.2:
            item["signature"] = {"B": _binary(random, 16)}
        if chance() < 0.05:
            item["photos"] = {"BS": sorted({_binary(random, 6), _binary(random, 7)})}
        if chance() < 0.1:
            # 38 digits, more than any float and more than Decimal(38, 2) with its fraction holds
            item["ledger"] = {"N": str(random.randrange(10**37, 10**38 - 1) // 10 * 10 + 1)}
        if chance() < 0.05:
            item["attachments"] = {"L": []} if chance() < 0.5 else {"M": {}}
        if chance() < 0.05:
            item["gate code"] = {"N": str(random.randrange(10_000))} if chance() < 0.5 else {"S": "0042"}


def _address(random: Random) -> TypedValue:
    city, country = random.choice(_CITIES)
    address: dict[str, object] = {
        "street": {"S": f"{random.randrange(1, 200)} Harbour Road"},
        "city": {"S": city},
        "country": {"S": country},
        "geo": {"M": {"lat": {"N": _degrees(random, 90)}, "lon": {"N": _degrees(random, 180)}}},
    }
    if random.random() < 0.3:
        address["floor"] = {"N": str(random.randrange(-2, 40))}
    return {"M": address}


def _line(random: Random) -> TypedValue:
    product = random.randrange(len(_PRODUCTS))
    line: dict[str, object] = {
        "sku": {"S": f"sku-{product:03d}"},
        "name": {"S": _PRODUCTS[product]},
        "quantity": {"N": str(random.randrange(1, 9))},
        "price": {"N": _money(random, 3)},
    }
    if random.random() < 0.2:
        line["options"] = {"M": {"colour": {"S": random.choice(("red", "grün", "青"))}, "sizes": {"SS": ["M", "L"]}}}
    return {"M": line}


def _money(random: Random, digits: int) -> str:
    """Return an amount with at most two decimals, as DynamoDB would print it."""
    cents = random.randrange(1, 10 ** (digits + 2))
    text = f"{cents // 100}.{cents % 100:02d}".rstrip("0")
    return text.rstrip(".")


def _degrees(random: Random, bound: int) -> str:
    return f"{random.randrange(-bound * 10**6, bound * 10**6) / 10**6:.6f}".rstrip("0").rstrip(".")


def _binary(random: Random, length: int) -> str:
    return base64.b64encode(random.randbytes(length)).decode()
