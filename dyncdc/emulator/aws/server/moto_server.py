"""The moto server behind the front: S3, and what DynamoDB tables look like. In a thread, on loopback only."""

from __future__ import annotations

import asyncio
import io
import logging
import os
from dataclasses import dataclass

import aiohttp
import orjson
from yarl import URL

from .wire import ACCOUNT, AwsError, Wire

_HOP_BY_HOP = {"host", "expect", "connection", "transfer-encoding", "content-length", "keep-alive", "server", "date"}
_SIGNED = "AWS4-HMAC-SHA256 Credential=local/20260101/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0"


class MotoMissingError(Exception):
    """moto is not installed: it comes with the extra ``local``."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What moto answered."""

    status: int
    headers: dict[str, str]
    body: bytes


class Moto:
    """A running moto server, and the only way to it."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    @classmethod
    async def start(cls) -> Moto:
        """Start moto in a thread of its own.

        Raises:
            MotoMissingError: it is not installed.
        """
        os.environ["MOTO_ACCOUNT_ID"] = ACCOUNT  # read when moto is imported, which is here and nowhere earlier
        try:
            from moto.server import ThreadedMotoServer
        except ImportError as error:
            raise MotoMissingError(str(error)) from error
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        await asyncio.to_thread(server.start)
        host, port = server.get_host_and_port()
        session = aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        return cls(f"http://{host}:{port}", session)

    async def close(self) -> None:
        """Close the connections. The thread is a daemon and ends with the process."""
        await self._session.close()

    async def forward(self, method: str, raw_path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Pass a request on as it is."""
        kept = {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}
        url = URL(self._url + raw_path, encoded=True)
        payload = io.BytesIO(body) if body else None
        async with self._session.request(method, url, headers=kept, data=payload, allow_redirects=False) as answer:
            content = await answer.read()
            dropped = _HOP_BY_HOP - {"content-length"} if method == "HEAD" else _HOP_BY_HOP
            shown = {name: value for name, value in answer.headers.items() if name.lower() not in dropped}
            return Answer(answer.status, shown, content)

    async def dynamodb(self, operation: str, request: Wire, region: str) -> Wire:
        """Call a DynamoDB operation of moto.

        Raises:
            AwsError: what moto answered.
        """
        headers = {
            "X-Amz-Target": f"DynamoDB_20120810.{operation}",
            "Content-Type": "application/x-amz-json-1.0",
            "Authorization": _SIGNED.format(region=region, service="dynamodb"),
        }
        answer = await self.forward("POST", "/", headers, orjson.dumps(request))
        document: Wire = orjson.loads(answer.body)
        if answer.status >= 400:
            code = str(document.get("__type", "InternalServerError")).rsplit("#", 1)[-1]
            raise AwsError(code, document.get("message") or document.get("Message") or "", answer.status)
        return document

    async def put_object(self, bucket: str, key: str, body: bytes, region: str) -> str:
        """Store an S3 object and return its ETag without quotes.

        Raises:
            AwsError: the bucket does not exist, or S3 refuses.
        """
        headers = {"Authorization": _SIGNED.format(region=region, service="s3"), "Content-Type": "binary/octet-stream"}
        path = URL.build(path=f"/{bucket}/{key}").raw_path
        answer = await self.forward("PUT", path, headers, body)
        if answer.status == 404:
            raise AwsError("S3NoSuchBucket", "The specified bucket does not exist")
        if answer.status >= 300:
            raise AwsError("S3Error", f"S3 answered {answer.status}")
        return {name.lower(): value for name, value in answer.headers.items()}["etag"].strip('"')


def s3_operation(method: str, path: str, query: str) -> str:
    """Return the name of an S3 operation by its request, for counting and faults; the common ones."""
    bucket, _, key = path.lstrip("/").partition("/")
    names = {part.partition("=")[0] for part in query.split("&") if part}
    if not bucket:
        return "ListBuckets"
    if not key:
        listing = "ListObjectsV2" if "list-type" in names else "ListObjects"
        bucket_names = {"PUT": "CreateBucket", "DELETE": "DeleteBucket", "HEAD": "HeadBucket", "GET": listing}
        return bucket_names.get(method, "DeleteObjects" if "delete" in names else "PostBucket")
    if "uploads" in names:
        return "CreateMultipartUpload"
    if "uploadId" in names:
        return {"PUT": "UploadPart", "POST": "CompleteMultipartUpload"}.get(method, "AbortMultipartUpload")
    return {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}.get(
        method, "PostObject"
    )
