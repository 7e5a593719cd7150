"""Answers as the service sent them, beside what the SDK makes of them: a pinned one drops every field that is newer.

The hook is botocore's own event ``before-parse``: parsing, signing, retries and modelled errors stay the SDK's.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import msgspec

WHOLE = "DyncdcWholeAnswer"
"""Under this name an answer carries its JSON."""

_read = msgspec.json.Decoder(dict[str, Any]).decode


def keep_raw_answer(
    response_dict: MutableMapping[str, Any], customized_response_dict: MutableMapping[str, Any], **_: object
) -> None:
    """Handle ``before-parse`` of an operation whose answers have fields to be looked at. Errors are left to botocore.

    Raises MsgspecError, which ``aws_call`` translates, for an answer that is no JSON object.
    """
    if response_dict["status_code"] < 300:
        customized_response_dict[WHOLE] = _read(response_dict["body"])


def raw_answer(response: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object called ``name`` in an answer, with every field that was sent. Raises LookupError, as if unreadable."""
    found: Mapping[str, Any] = response[WHOLE][name]
    return found
