"""A finished DynamoDB export as a source: its data files are the shards, and a position is a number of lines.

An open download is a private cache. A file's end is returned only after its md5 and its number of items agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dyncdc.errors import CorruptSnapshotError, FatalError, RetryableError
from dyncdc.model.shards import HORIZON, Position, RawChunk, Shard, ShardId, SourceId
from dyncdc.sources.aws_errors import Verdict, aws_call
from dyncdc.sources.snapshot_source import SnapshotSource, snapshot_chunk

from .gzip_lines import GzipLines
from .manifest import DataFile

PIECE_BYTES = 64 * 1024
PAGE_FILES = 1000
LINE_NUMBER_MAX_DIGITS = 19

LINE_OVERHEAD_BYTES = 128
"""What a line costs in memory beside its bytes: two object headers and two list slots."""

_MISSING = "the manifest names it; restore the object or take a new export"
_OBJECT: dict[str, Verdict] = {
    "NoSuchKey": (CorruptSnapshotError, _MISSING),
    "404": (CorruptSnapshotError, _MISSING),
    "NoSuchBucket": (CorruptSnapshotError, _MISSING),
    "PreconditionFailed": (CorruptSnapshotError, "the object was replaced while it was read; take a new export"),
}


@dataclass(slots=True)
class _Download:
    """One file being read. ``ready`` are lines taken from it that no fetch has returned yet."""

    lines: GzipLines
    skip: int
    """Lines at the front that an earlier run has made durable: hashed and counted, never returned again."""
    returned: int
    ready: list[bytes] = field(default_factory=list)
    ready_bytes: int = 0
    body: Any = None
    size: int = -1
    etag: str = ""
    verified: bool = False

    def add(self, lines: list[bytes]) -> None:
        """Append lines just taken, without those to skip."""
        first = self.lines.lines - len(lines)
        new = lines if first >= self.skip else lines[self.skip - first :]
        self.ready += new
        self.ready_bytes += sum(map(len, new))

    def release(self) -> None:
        """Give the connection back. What was inflated so far stays valid."""
        body, self.body = self.body, None
        if body is not None:
            body.close()


class ExportSource(SnapshotSource):
    """The data files of one export. ``label`` is the table's name."""

    def __init__(self, s3: Any, source: SourceId, label: str, bucket: str, files: Sequence[DataFile]) -> None:
        super().__init__(source, label)
        self._s3 = s3
        self._bucket = bucket
        self._files = {ShardId(file.key): file for file in files}
        self._downloads: dict[ShardId, _Download] = {}

    @property
    def item_count(self) -> int:
        """Items in all files together."""
        return sum(file.item_count for file in self._files.values())

    async def list_shards(self) -> AsyncIterator[Sequence[Shard]]:
        """Yield the files that the manifest names, each once."""
        shards = [Shard(self._id, file) for file in self._files]
        for first in range(0, len(shards), PAGE_FILES):
            yield shards[first : first + PAGE_FILES]

    async def fetch(self, shard: Shard, after: Position, want_bytes: int) -> RawChunk:
        """Return the next lines. A broken download goes on at its byte; another position reads the file again."""
        file = self._files.get(shard.id)
        if file is None:
            raise CorruptSnapshotError(f"reading {shard.id}: the manifest of the export does not name it")
        skip = _line_number(after, file.item_count)
        download = self._downloads.get(shard.id)
        if download is None or download.returned != skip:
            self.forget(shard)
            lines = GzipLines(self._name(file), file.md5, file.item_count)
            download = self._downloads[shard.id] = _Download(lines, skip, skip)
        try:
            await self._fill(download, file, want_bytes)
        except CorruptSnapshotError:
            self.forget(shard)
            raise
        return self._chunk(shard, download)

    async def _fill(self, download: _Download, file: DataFile, want_bytes: int) -> None:
        """Read until ``ready`` holds ``want_bytes``, or to the verified end. Cancelling it loses no line."""
        while not download.verified and download.ready_bytes < want_bytes:
            download.add(await self._next_lines(download, file, want_bytes - download.ready_bytes))
            await asyncio.sleep(0)  # data that has arrived is read without a turn of the event loop

    async def _next_lines(self, download: _Download, file: DataFile, want_bytes: int) -> list[bytes]:
        """Take one step: the lines that are whole now, often none. Sets ``verified`` at the end of the file."""
        if not download.lines.hungry:
            return download.lines.take(want_bytes)
        if piece := await self._next_piece(download, file):
            download.lines.feed(piece)
            return []
        lines = download.lines.finish()
        download.verified = True
        download.release()
        return lines

    async def reread(self, shard: Shard, positions: Sequence[Position]) -> AsyncGenerator[tuple[Position, bytes], None]:
        """Yield these lines again, by another download of the file from its beginning to the last of them."""
        file = self._files.get(shard.id)
        if file is None:
            return
        wanted = {_line_number(position, file.item_count): position for position in positions}
        download = _Download(GzipLines(self._name(file), file.md5, file.item_count), 0, 0)
        try:
            while wanted and not download.verified:
                lines = await self._next_lines(download, file, PIECE_BYTES)
                first = download.lines.lines - len(lines) + 1
                for number in [number for number in wanted if number < first + len(lines)]:
                    yield wanted.pop(number), lines[number - first]
                await asyncio.sleep(0)
        finally:
            download.release()

    async def _next_piece(self, download: _Download, file: DataFile) -> bytes:
        """The next compressed bytes, empty at the end of the object."""
        if download.lines.compressed_bytes == download.size:
            return b""
        try:
            async with aws_call(f"reading {self._name(file)}", _OBJECT):
                if download.body is None:
                    await self._open(download, file)
                return bytes(await download.body.read(PIECE_BYTES))
        except RetryableError:
            download.release()
            raise

    async def _open(self, download: _Download, file: DataFile) -> None:
        """Open the object, at the byte where the last download of it broke off."""
        done = download.lines.compressed_bytes
        resume = {"Range": f"bytes={done}-", "IfMatch": download.etag} if done else {}
        response = await self._s3.get_object(Bucket=self._bucket, Key=file.key, **resume)
        download.body = response["Body"]
        if not done:
            download.size, download.etag = int(response["ContentLength"]), str(response["ETag"])
        elif not str(response.get("ContentRange", "")).startswith(f"bytes {done}-"):
            self.forget(Shard(self._id, ShardId(file.key)))  # the next fetch starts the file again
            raise RetryableError(f"reading {self._name(file)}: the server does not answer with the range asked for")

    def _chunk(self, shard: Shard, download: _Download) -> RawChunk:
        """Hand the ready lines over. No await here: the download's position moves with them."""
        first, records = download.returned + 1, download.ready
        nbytes = download.ready_bytes + len(records) * LINE_OVERHEAD_BYTES
        download.returned += len(records)
        download.ready, download.ready_bytes = [], 0
        positions = [Position(str(number)) for number in range(first, first + len(records))]
        end = Position(str(download.returned))
        return snapshot_chunk(shard, records, positions, end, nbytes=nbytes, closed=download.verified)

    def _name(self, file: DataFile) -> str:
        return f"s3://{self._bucket}/{file.key}"

    def forget(self, shard: Shard) -> None:
        """Close the download of a file."""
        download = self._downloads.pop(shard.id, None)
        if download is not None:
            download.release()

    async def close(self) -> None:
        """Close every download. The clients belong to ``open_clients``."""
        for file in list(self._downloads):
            self.forget(Shard(self._id, file))


def _line_number(position: Position, item_count: int) -> int:
    if position == HORIZON:
        return 0
    if position.isascii() and position.isdecimal() and len(position) < LINE_NUMBER_MAX_DIGITS:
        number = int(position)
        if number <= item_count:
            return number
    raise FatalError(
        f"resuming a data file of {item_count} items: {position[:80]!r} is not a number of lines in it",
        hint="dyncdc_checkpoints was edited, or written by a newer version",
    )
