"""Items in DynamoDB's own JSON (``{"id": {"S": "a"}}``, binary as base64), past botocore's parser.

Botocore walks every value by its model, which costs more than reading and comparing an item do. The hook is its own
event ``before-parse``: signing, retries and modelled errors stay the SDK's.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, MutableMapping
from typing import Any

import orjson

Item = dict[str, dict[str, Any]]
"""Attribute names and typed values."""

DECODED = "DyncdcItems"
"""Under this name the answer of Scan and BatchGetItem carries its items."""


def decode_items(
    response_dict: MutableMapping[str, Any], customized_response_dict: MutableMapping[str, Any], **_: object
) -> None:
    """Handle ``before-parse.dynamodb.Scan`` and ``.BatchGetItem``. Errors and what is no JSON are left to botocore."""
    if response_dict["status_code"] >= 300:
        return
    try:
        answer = orjson.loads(response_dict["body"])
    except orjson.JSONDecodeError:
        return
    if not isinstance(answer, dict):
        return
    found = answer.pop("Items", None)
    if found is None:
        responses = answer.pop("Responses", {})
        found = [item for items in responses.values() for item in items]
    customized_response_dict[DECODED] = found
    response_dict["body"] = orjson.dumps(answer)


def items_of(response: Mapping[str, Any]) -> list[Item]:
    """The items that ``decode_items`` left in an answer of Scan or BatchGetItem. Empty for an answer without items."""
    found: list[Item] = response.get(DECODED) or []
    return found


def sdk_key(key: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """A primary key as the SDK takes it: binary as bytes."""
    return {
        name: {tag: base64.b64decode(content) if tag == "B" else content for tag, content in value.items()}
        for name, value in key.items()
    }
