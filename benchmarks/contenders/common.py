"""What every contender shares: its arguments, the destination's columns, and rows as boto3's deserializer makes them.

Each is a process: it opens its clients, says ``ready``, drains a stream into a table until ``--records`` are in, says
``done`` and waits for its end. Its CPU time is taken from outside, between the release of the records and the last row.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

COLUMNS = (
    *("pk", "sk", "status", "amount", "qty", "score", "active", "deleted_at"),
    *("address", "items", "tags", "blob", "_version", "_deleted"),
)
EMPTY_PAUSE_SECONDS = 0.05


def arguments() -> argparse.Namespace:
    """Read the command line and point the AWS SDKs at the endpoint."""
    parser = argparse.ArgumentParser()
    for name in ("--endpoint", "--stream", "--database", "--table"):
        parser.add_argument(name, required=True)
    for name in ("--http-port", "--tcp-port", "--records"):
        parser.add_argument(name, type=int, required=True)
    found = parser.parse_args()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": found.endpoint,
    }
    return found


def say(word: str) -> None:
    """Tell the parent how far we are."""
    print(word, flush=True)


def await_end() -> None:
    """Wait until the parent closes the pipe."""
    say("done")
    sys.stdin.read()


def deserialized_rows(records: Iterable[bytes | dict[str, Any]]) -> list[list[Any]]:
    """Rows by ``TypeDeserializer``, as scripts do it. It takes bytes for B only; streams carry base64 text."""
    from boto3.dynamodb.types import TypeDeserializer

    class Deserializer(TypeDeserializer):  # type: ignore[misc]
        def _deserialize_b(self, value: str) -> Any:
            return super()._deserialize_b(base64.b64decode(value))

    deserialize = Deserializer().deserialize
    rows = []
    for record in records:
        change = (record if isinstance(record, dict) else json.loads(record))["dynamodb"]
        new = change.get("NewImage")
        item = {name: deserialize(value) for name, value in (new or change["Keys"]).items()}
        rows.append(
            [
                item["pk"],
                int(item["sk"]),
                item.get("status"),
                item.get("amount"),
                int(item["qty"]) if "qty" in item else None,
                float(item["score"]) if "score" in item else None,
                item.get("active"),
                item.get("deleted_at"),
                json.dumps(item["address"], default=_plain) if "address" in item else None,
                json.dumps(item["items"], default=_plain) if "items" in item else None,
                list(item.get("tags", ())),
                item["blob"].value if "blob" in item else None,
                change["ApproximateCreationDateTime"],
                0 if new else 1,
            ]
        )
    return rows


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value) if value % 1 else int(value)
    return list(value)
