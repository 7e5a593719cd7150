"""Change events in the shape of "Kinesis Data Streams for DynamoDB", the same on every machine, and what they come to.

Sizes are means of one event: ``500b`` (6 attributes), ``1kb`` (12 attributes of mixed types; 45 % INSERT, 50 % MODIFY
with both images, 5 % REMOVE) and ``5kb`` (the same 12 with long texts and lists; 70 % with both images).
"""

from __future__ import annotations

import base64
import json
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson

Image = dict[str, dict[str, Any]]

TABLE = "orders"
KEYS = {"pk": "S", "sk": "N"}
SIZES = ("500b", "1kb", "5kb")
EPOCH_MILLISECONDS = 1_760_000_000_000
STATUSES = ("PENDING", "PAID", "SHIPPED", "DELIVERED", "CANCELLED", "RETURNED")
CITIES = ("Berlin", "São Paulo", "東京", "New York", "Zürich", "Lagos")
WORDS = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa quebec romeo"
    " sierra tango"
).split()


@dataclass
class Expected:
    """What a destination must hold once all events are in it. Every key occurs once, so order does not matter."""

    rows: int = 0
    deleted: int = 0
    amount: Decimal = Decimal(0)
    quantity: int = 0
    tags: int = 0
    blob_bytes: int = 0
    city_bytes: int = 0

    def add(self, image: Image | None) -> None:
        """Count one event by its new image; None for a REMOVE."""
        self.rows += 1
        if image is None:
            self.deleted += 1
            return
        self.amount += Decimal(image["amount"]["N"]) if "amount" in image else 0
        self.quantity += int(image["qty"]["N"])
        self.tags += len(image["tags"]["SS"]) if "tags" in image else 0
        self.blob_bytes += len(base64.b64decode(image["blob"]["B"])) if "blob" in image else 0
        self.city_bytes += len(image["address"]["M"]["city"]["S"].encode()) if "address" in image else 0


def _keys(rng: random.Random, number: int) -> Image:
    return {
        "pk": {"S": f"CUST#{rng.randrange(50_000):08d}"},
        "sk": {"N": str(EPOCH_MILLISECONDS + number * 7)},
    }


def _words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def _small(rng: random.Random, keys: Image) -> Image:
    return keys | {
        "status": {"S": rng.choice(STATUSES)},
        "amount": {"N": f"{rng.randrange(1, 5000)}.{rng.randrange(100):02d}"},
        "qty": {"N": str(rng.randrange(1, 500))},
    }


def image(rng: random.Random, keys: Image, *, big: bool = False) -> Image:
    """An item of 12 attributes: 460 bytes as typed JSON, or some 2.8 KB when ``big``."""
    made = dict(keys)
    made["status"] = {"S": rng.choice(STATUSES)}
    made["amount"] = {"N": f"{rng.randrange(1, 5000)}.{rng.randrange(100):02d}"}
    made["qty"] = {"N": str(rng.randrange(1, 500))}
    made["score"] = {"N": f"{rng.random():.7f}"}
    made["active"] = {"BOOL": rng.random() < 0.7}
    if rng.random() < 0.3:
        made["deleted_at"] = {"S": f"2026-01-{rng.randrange(1, 29):02d}T10:00:00Z"}
    elif rng.random() < 0.6:
        made["deleted_at"] = {"NULL": True}
    geo = [{"N": f"52.{rng.randrange(9999):04d}"}, {"N": f"13.{rng.randrange(9999):04d}"}]
    address = {"city": {"S": rng.choice(CITIES)}, "zip": {"S": f"{rng.randrange(99999):05d}"}, "geo": {"L": geo}}
    made["address"] = {"M": address | ({"notes": {"S": _words(rng, 50)}} if big else {})}
    items = [
        {"sku": {"S": f"SKU-{rng.randrange(99999):05d}"}, "n": {"N": str(rng.randrange(9) + 1)}}
        | ({"desc": {"S": _words(rng, 8)}} if big else {})
        for _ in range(rng.randrange(11, 17) if big else rng.randrange(1, 3))
    ]
    made["items"] = {"L": [{"M": one} for one in items]}
    made["tags"] = {"SS": sorted({rng.choice(WORDS) for _ in range(8 if big else 2)})}
    made["blob"] = {"B": base64.b64encode(rng.randbytes(300 if big else 12)).decode()}
    return made


def _changed(rng: random.Random, number: int, size: str) -> tuple[str, Image, Image | None, Image | None]:
    """Event name, keys, new image and old image of one event."""
    keys = _keys(rng, number)
    if size == "500b":
        return "INSERT", keys, _small(rng, keys), None
    modified, chance = 0.70 if size == "5kb" else 0.50, rng.random()
    now = image(rng, keys, big=size == "5kb")
    if chance >= 0.95:
        return "REMOVE", keys, None, now
    if chance >= modified:
        return "INSERT", keys, now, None
    after = now | {"status": {"S": rng.choice(STATUSES)}, "qty": {"N": str(rng.randrange(1, 500))}}
    return "MODIFY", keys, after, now


def events(size: str, count: int, *, seed: int = 7, first: int = 0) -> tuple[list[bytes], Expected]:
    """Make events numbered from ``first``, and what they come to."""
    rng = random.Random(f"{seed}-{size}-{first}")
    made, expected = [], Expected()
    for number in range(first, first + count):
        name, keys, new, old = _changed(rng, number, size)
        expected.add(new)
        body: dict[str, Any] = {
            "ApproximateCreationDateTime": EPOCH_MILLISECONDS * 1000 + number * 137,
            "ApproximateCreationDateTimePrecision": "MICROSECOND",
            "Keys": keys,
        }
        body |= {"NewImage": new} if new is not None else {}
        body |= {"OldImage": old} if old is not None else {}
        body["SizeBytes"] = 400
        event = {
            "awsRegion": "us-east-1",
            "eventID": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "eventName": name,
            "userIdentity": None,
            "recordFormat": "application/json",
            "tableName": TABLE,
            "dynamodb": body,
            "eventSource": "aws:dynamodb",
        }
        made.append(json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode())
    return made, expected


def records_body(made: Sequence[bytes]) -> bytes:
    """The answer of GetRecords that holds these records, as it comes over the wire."""
    base = 49652112345678901234567890123456789012345678901234567890
    records = [
        {
            "ApproximateArrivalTimestamp": EPOCH_MILLISECONDS / 1000 + number * 0.001,
            "Data": base64.b64encode(data).decode(),
            "PartitionKey": f"{number:032X}",
            "SequenceNumber": str(base + number * 1_000_003),
        }
        for number, data in enumerate(made)
    ]
    return orjson.dumps({"MillisBehindLatest": 0, "NextShardIterator": "A" * 220, "Records": records})


def export_lines(count: int, *, seed: int = 7) -> Iterator[bytes]:
    """Lines of an export's data file: items of about 460 bytes."""
    rng = random.Random(f"{seed}-export")
    for number in range(count):
        item = image(rng, _keys(rng, number))
        yield json.dumps({"Item": item}, separators=(",", ":"), ensure_ascii=False).encode()
