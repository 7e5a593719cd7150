"""Items in DynamoDB's own JSON (``{"id": {"S": "a"}}``, binary as base64), past botocore's parser.

Botocore walks every value by its model, which costs more than reading and comparing an item do. The hook is its own
event ``before-parse``: signing, retries and modelled errors stay the SDK's.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, MutableMapping
from typing import Any

import msgspec
import orjson

from dyncdc.errors import RetryableError

Item = dict[str, dict[str, Any]]
"""Attribute names and typed values."""

DECODED = "DyncdcItems"
"""Under this name the answer of Scan and BatchGetItem carries its items, each still the JSON that DynamoDB sent."""

_ANSWER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_BY_TABLE = msgspec.json.Decoder(dict[str, list[msgspec.Raw]])


def decode_items(
    response_dict: MutableMapping[str, Any], customized_response_dict: MutableMapping[str, Any], **_: object
) -> None:
    """Handle ``before-parse.dynamodb.Scan`` and ``.BatchGetItem``. Errors and what is no JSON are left to botocore."""
    if response_dict["status_code"] >= 300:
        return
    try:
        answer = _ANSWER.decode(response_dict["body"])
        items = answer.pop("Items", None)
        if items is not None:
            found = _ITEMS.decode(items)
        else:
            by_table = _BY_TABLE.decode(answer.pop("Responses", b"{}"))
            found = [item for items in by_table.values() for item in items]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    customized_response_dict[DECODED] = found
    response_dict["body"] = msgspec.json.encode(answer)


def raw_items_of(response: Mapping[str, Any]) -> list[msgspec.Raw]:
    """The items that ``decode_items`` left in an answer, byte for byte as they came. Empty for an answer without any.

    They are views of the whole answer: it stays in memory for as long as one of them does.
    """
    found: list[msgspec.Raw] = response.get(DECODED) or []
    return found


def items_of(response: Mapping[str, Any]) -> list[Item]:
    """The items that ``decode_items`` left in an answer. Raises RetryableError for what is no JSON."""
    try:
        return [orjson.loads(memoryview(raw)) for raw in raw_items_of(response)]
    except orjson.JSONDecodeError:
        raise RetryableError("reading items: the answer cannot be understood") from None


def sdk_key(key: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """A primary key as the SDK takes it: binary as bytes."""
    return {
        name: {tag: base64.b64decode(content) if tag == "B" else content for tag, content in value.items()}
        for name, value in key.items()
    }


def key_json(key: Mapping[str, Mapping[str, Any]]) -> str:
    """A primary key as the SDK gives it, in DynamoDB's own JSON: binary as base64."""
    typed = {
        name: {tag: base64.b64encode(content).decode() if tag == "B" else content for tag, content in value.items()}
        for name, value in key.items()
    }
    return orjson.dumps(typed, option=orjson.OPT_SORT_KEYS).decode()
