"""Change events as Kinesis Data Streams for DynamoDB sends them, the same ones for the same seed.

- ``500b``: a composite key and three attributes, INSERT only.
- ``1kb``: 12 attributes of mixed types; 45 % INSERT, 50 % MODIFY with both images, 5 % REMOVE.
- ``5kb``: the same attributes, with long lists, texts and binaries.
"""

from __future__ import annotations

import base64
import random
import uuid
from collections.abc import Sequence
from typing import Any

import orjson

TABLE = "orders"
VARIANTS = ("500b", "1kb", "5kb")

BEGIN_MILLISECONDS = 1_760_000_000_000
FIRST_SEQUENCE = 49652112345678901234567890123456789012345678901234567890

STATUSES = ("PENDING", "PAID", "SHIPPED", "DELIVERED", "CANCELLED", "RETURNED")
CITIES = ("Berlin", "São Paulo", "東京", "New York", "Zürich", "Lagos")
WORDS = ("alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa").split()


def events(variant: str, count: int, seed: int = 7) -> list[bytes]:
    """Return so many change records."""
    rng = random.Random(f"{variant} {seed}")
    return [orjson.dumps(_event(rng, number, variant)) for number in range(count)]


def records_body(found: Sequence[bytes]) -> bytes:
    """Return the answer of GetRecords that holds these records."""
    records = [
        {
            "ApproximateArrivalTimestamp": BEGIN_MILLISECONDS / 1000 + number * 0.001,
            "Data": base64.b64encode(event).decode(),
            "PartitionKey": f"{number:032X}",
            "SequenceNumber": str(FIRST_SEQUENCE + number * 1_000_003),
        }
        for number, event in enumerate(found)
    ]
    return orjson.dumps({"MillisBehindLatest": 0, "NextShardIterator": "A" * 220, "Records": records})


def export_lines(variant: str, count: int, seed: int = 7) -> list[bytes]:
    """Return so many lines of an export's data file."""
    rng = random.Random(f"{variant} {seed}")
    return [orjson.dumps({"Item": _image(rng, _keys(rng, number), variant)}) for number in range(count)]


def _keys(rng: random.Random, number: int) -> dict[str, Any]:
    return {"pk": {"S": f"CUST#{rng.randrange(50_000):08d}"}, "sk": {"N": str(BEGIN_MILLISECONDS + number * 7)}}


def _event(rng: random.Random, number: int, variant: str) -> dict[str, Any]:
    keys = _keys(rng, number)
    body: dict[str, Any] = {
        "ApproximateCreationDateTime": BEGIN_MILLISECONDS * 1000 + number * 137,
        "ApproximateCreationDateTimePrecision": "MICROSECOND",
        "Keys": keys,
        "SizeBytes": 400,
    }
    image = _image(rng, keys, variant)
    draw = rng.random()
    name = "INSERT" if variant == "500b" or draw < 0.45 else "MODIFY" if draw < 0.95 else "REMOVE"
    if name != "INSERT":
        body["OldImage"] = image
    if name != "REMOVE":
        body["NewImage"] = image | {"status": {"S": rng.choice(STATUSES)}}
    return {
        "awsRegion": "eu-central-1",
        "eventID": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "eventName": name,
        "userIdentity": None,
        "recordFormat": "application/json",
        "tableName": TABLE,
        "dynamodb": body,
        "eventSource": "aws:dynamodb",
    }


def _image(rng: random.Random, keys: dict[str, Any], variant: str) -> dict[str, Any]:
    image = keys | {"status": {"S": rng.choice(STATUSES)}, "qty": {"N": str(rng.randrange(1, 500))}}
    if variant == "500b":
        return image | {"active": {"BOOL": rng.random() < 0.7}}
    big = variant == "5kb"
    image |= {
        "amount": {"N": f"{rng.randrange(1, 500_000) / 100:g}"},
        "score": {"N": f"{rng.randrange(1, 10**7) / 10**7:.7f}".rstrip("0")},
        "active": {"BOOL": rng.random() < 0.7},
        "address": {"M": _address(rng, big)},
        "items": {"L": [{"M": _line(rng, big)} for _ in range(rng.randrange(11, 17) if big else rng.randrange(1, 3))]},
        "tags": {"SS": sorted({rng.choice(WORDS) for _ in range(8 if big else 2)})},
        "blob": {"B": base64.b64encode(rng.randbytes(300 if big else 12)).decode()},
    }
    if rng.random() < 0.3:
        image["deleted_at"] = {"S": f"2026-01-{rng.randrange(1, 29):02d}T10:00:00Z"}
    elif rng.random() < 0.6:
        image["deleted_at"] = {"NULL": True}
    return image


def _address(rng: random.Random, big: bool) -> dict[str, Any]:
    place = [{"N": f"52.{rng.randrange(1000) * 10 + 7:04d}"}, {"N": f"13.{rng.randrange(1000) * 10 + 3:04d}"}]
    address: dict[str, Any] = {"city": {"S": rng.choice(CITIES)}, "zip": {"S": f"{rng.randrange(99_999):05d}"}}
    address["geo"] = {"L": place}
    return address | ({"notes": {"S": _words(rng, 50)}} if big else {})


def _line(rng: random.Random, big: bool) -> dict[str, Any]:
    line = {"sku": {"S": f"SKU-{rng.randrange(99_999):05d}"}, "n": {"N": str(rng.randrange(1, 10))}}
    return line | ({"desc": {"S": _words(rng, 8)}} if big else {})


def _words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))
