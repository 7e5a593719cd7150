"""GetRecords bodies into record bytes, in place of botocore's parser, which costs ten times as much a record.

The hook is botocore's own event ``before-parse``: signing, retries and modelled errors stay the SDK's. What it decodes
travels in the answer of that very call, so concurrent calls cannot be mixed up.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import msgspec

from ..errors import RetryableError

DECODED = "DyncdcRecords"
"""Under this name the answer of ``get_records`` carries a ``RecordsBody``."""


class Record(msgspec.Struct, gc=False):
    """One Kinesis record. ``ApproximateArrivalTimestamp`` in seconds since the epoch."""

    Data: bytes
    SequenceNumber: str
    ApproximateArrivalTimestamp: float = 0.0


class ChildShard(msgspec.Struct, gc=False):
    """A shard that goes on where a closed one ended."""

    ShardId: str
    ParentShards: list[str] | None = None


class RecordsBody(msgspec.Struct, gc=False):
    """The answer of GetRecords. Without ``NextShardIterator`` the shard is closed and drained."""

    Records: list[Record]
    NextShardIterator: str | None = None
    MillisBehindLatest: float | None = None
    ChildShards: list[ChildShard] | None = None


_DECODER = msgspec.json.Decoder(RecordsBody)


def parse_records(body: bytes) -> RecordsBody:
    """Decode one body. Raises RetryableError for anything that is not an answer of GetRecords."""
    try:
        answer = _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RetryableError(f"reading records: the answer cannot be understood ({type(error).__name__})") from error
    numbers = [record.SequenceNumber for record in answer.Records]
    digits = "".join(numbers)
    if numbers and not (digits.isascii() and digits.encode().isdigit() and all(numbers)):
        raise RetryableError("reading records: the answer has a sequence number that is not a number")
    return answer


def decode_get_records(
    response_dict: MutableMapping[str, Any], customized_response_dict: MutableMapping[str, Any], **_: object
) -> None:
    """Handle ``before-parse.kinesis.GetRecords``. Errors and other encodings are left to botocore."""
    headers: Mapping[str, str] = response_dict["headers"]
    if response_dict["status_code"] >= 300 or "cbor" in headers.get("content-type", ""):
        return
    customized_response_dict[DECODED] = parse_records(response_dict["body"])
    response_dict["body"] = b"{}"
