"""What AWS's JSON protocol looks like on the wire: errors, request ids, the region a request was signed for."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

ACCOUNT = "000000000000"
"""The account of every ARN made here, the same as LocalStack's."""

DEFAULT_REGION = "us-east-1"

Wire = dict[str, Any]
"""One JSON document of the protocol. Its shape is AWS's; it is looked into only by the operation that it belongs to."""

_SCOPE = re.compile(r"Credential=[^/]*/[^/]*/([^/]*)/([^/]*)/")


class AwsError(Exception):
    """An error that the service answers with, by its AWS code."""

    def __init__(self, code: str, message: str = "", status: int = 400, **extra: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.extra = extra


def signed_for(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return region and service from the credential scope of a signed request, or the default region and ``""``."""
    match = _SCOPE.search(headers.get("Authorization", ""))
    return (match[1], match[2]) if match else (DEFAULT_REGION, "")


def json_answer(document: Wire | bytes, version: str, status: int = 200) -> web.Response:
    """Build the answer to a JSON operation; ``version`` is the protocol's, ``1.0`` or ``1.1``."""
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return web.Response(
        body=body,
        status=status,
        headers={"Content-Type": f"application/x-amz-json-{version}", "x-amzn-RequestId": str(uuid.uuid4())},
    )


def json_error(error: AwsError, namespace: str, version: str) -> web.Response:
    """Build the answer for ``error``; ``namespace`` precedes the code in ``__type`` as the service does it."""
    document = {"__type": namespace + error.code, "message": error.message, **error.extra}
    return json_answer(document, version, error.status)


def iso(seconds: float) -> str:
    """Return ISO 8601 in UTC with milliseconds, the form of manifests."""
    millis = int(seconds * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millis // 1000)) + f".{millis % 1000:03d}Z"
