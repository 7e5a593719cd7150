"""GetRecords bodies into record bytes, in place of botocore's parser, which costs ten times as much a record.

The hook is botocore's own event ``before-parse``: signing, retries and modelled errors stay the SDK's. What it decodes
travels in the answer of that very call, so concurrent calls cannot be mixed up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec

from dyncdc.errors import RetryableError
from dyncdc.model.shards import Position
from dyncdc.native.version import demand_version, why_missing

Split = tuple[list[bytes], list[str], float, float, bytes]

try:
    from dyncdc.native import _get_records as _bodies

    demand_version(_bodies)
    from dyncdc.native._get_records import split
except ImportError as error:
    _why = why_missing(error)

    def split(body: bytes, /) -> Split | None:
        """Find nothing plain."""
        return None

else:
    _why = ""

WHY_EXACT: Final = _why
"""Why the compiled reader of answers is not used, and what to do; "" where it is."""


DECODED = "DyncdcRecords"
"""Under this name the answer of ``get_records`` carries a ``RecordsBody``."""


class _Record(msgspec.Struct, gc=False):
    Data: bytes
    SequenceNumber: str
    ApproximateArrivalTimestamp: float = 0.0


class ChildShard(msgspec.Struct, gc=False):
    """A shard that goes on where a closed one ended."""

    ShardId: str
    ParentShards: list[str] | None = None


class _Body(msgspec.Struct, gc=False):
    Records: list[_Record]
    NextShardIterator: str | None = None
    MillisBehindLatest: float | None = None
    ChildShards: list[ChildShard] | None = None


@dataclass(frozen=True, slots=True)
class RecordsBody:
    """The answer of GetRecords. Without ``iterator`` the shard is closed and drained.

    ``first_arrived`` and ``arrived``: when the first and the last record came into the stream, in seconds since the
    epoch; 0 if there is none.
    """

    records: list[bytes]
    positions: list[Position]
    arrived: float
    iterator: str | None
    behind_seconds: float
    children: Sequence[ChildShard]
    first_arrived: float = 0.0


_read: Callable[[bytes], _Body] = msgspec.json.Decoder(_Body).decode


def parse_records(body: bytes) -> RecordsBody:
    """Decode one body. Raises RetryableError for anything that is not an answer of GetRecords."""
    plain = split(body)
    try:
        rest = _read(plain[4] if plain is not None else body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RetryableError(f"reading records: the answer cannot be understood ({type(error).__name__})") from error
    if plain is not None:
        records, numbers, first_arrived, arrived = plain[:4]
    else:
        records = [record.Data for record in rest.Records]
        numbers = [record.SequenceNumber for record in rest.Records]
        arrivals = [record.ApproximateArrivalTimestamp for record in rest.Records] or [0.0]
        first_arrived, arrived = arrivals[0], arrivals[-1]
        digits = "".join(numbers)
        if numbers and not (digits.isascii() and digits.encode().isdigit() and all(numbers)):
            raise RetryableError("reading records: the answer has a sequence number that is not a number")
    behind_seconds = (rest.MillisBehindLatest or 0.0) / 1000.0
    positions = cast("list[Position]", numbers)
    children = rest.ChildShards or ()
    return RecordsBody(
        records, positions, arrived, rest.NextShardIterator, behind_seconds, children, first_arrived=first_arrived
    )


def decode_get_records(
    response_dict: MutableMapping[str, Any], customized_response_dict: MutableMapping[str, Any], **_: object
) -> None:
    """Handle ``before-parse.kinesis.GetRecords``. Errors and other encodings are left to botocore."""
    headers: Mapping[str, str] = response_dict["headers"]
    if response_dict["status_code"] >= 300 or "cbor" in headers.get("content-type", ""):
        return
    customized_response_dict[DECODED] = parse_records(response_dict["body"])
    response_dict["body"] = b"{}"
