"""Pieces of one gzip file into whole lines, in memory that does not depend on the compression ratio. No I/O.

The file's md5 and its number of lines are checked at the end; nothing before the end vouches for anything.
"""

from __future__ import annotations

import hashlib
import zlib

from dyncdc.errors import CorruptSnapshotError

INFLATE_BYTES = 256 * 1024
"""Most that one step inflates: about a millisecond."""

STEP_MIN_BYTES = 4096

LINE_MAX_BYTES = 4 * 2**20
"""Longest line: an item has 400 KB at most, and JSON with base64 and escapes at worst a few times that."""

_GZIP = 16 + zlib.MAX_WBITS
_AGAIN = "the object is not what DynamoDB exported; rows read from it stand until a later snapshot"


class GzipLines:
    """The state of reading one file: feed it compressed pieces, take lines, and finish."""

    def __init__(self, name: str, md5: bytes, line_count: int) -> None:
        self._name = name
        self._wanted_md5 = md5
        self._wanted_lines = line_count
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._inflate = zlib.decompressobj(_GZIP)
        self._pending = b""
        self._more = False
        self._tail = b""
        self.compressed_bytes = 0
        """Bytes fed so far: where a broken download goes on."""
        self.lines = 0
        """Lines taken so far."""

    @property
    def hungry(self) -> bool:
        """Whether the next lines need another piece."""
        return not self._pending and not self._more

    def feed(self, piece: bytes) -> None:
        """Append a compressed piece. Only when hungry."""
        self._md5.update(piece)
        self.compressed_bytes += len(piece)
        self._pending = piece

    def take(self, want_bytes: int) -> list[bytes]:
        """Inflate about ``want_bytes``, one step at most, and return the lines that are whole now; often none.

        Raises CorruptSnapshotError when the bytes are not gzip or a line is too long.
        """
        if self._inflate.eof:  # gzip files may be concatenated
            self._inflate = zlib.decompressobj(_GZIP)
        room = min(max(want_bytes, STEP_MIN_BYTES), INFLATE_BYTES)
        try:
            data = self._inflate.decompress(self._pending, room)
        except zlib.error as error:
            message = f"reading {self._name}: not valid gzip after line {self.lines}"
            raise CorruptSnapshotError(message, hint=_AGAIN) from error
        # zlib may have swallowed all input and still hold output for which there was no room.
        self._more = len(data) == room and not self._inflate.eof
        self._pending = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        whole, newline, rest = data.rpartition(b"\n")
        if not newline:
            return self._count([], self._tail + data)
        return self._count((self._tail + whole).split(b"\n"), rest)

    def finish(self) -> list[bytes]:
        """Return the last line if it has no newline, once the file has proved to be what the manifest names.

        Only after the last piece was fed and taken. Raises CorruptSnapshotError saying what disagrees.
        """
        # An empty partition's file may have no bytes at all, not even those of an empty gzip file.
        complete = (self._inflate.eof and not self._pending) or not self.compressed_bytes
        rest = self._count([self._tail], b"")
        # The md5 is the stronger statement: a short download and a damaged one fail it alike.
        if self._md5.digest() != self._wanted_md5:
            cut = "" if complete else ", and the gzip stream is cut short"
            raise CorruptSnapshotError(f"verifying {self._name}: its md5 differs from the manifest's{cut}", hint=_AGAIN)
        if not complete:
            raise CorruptSnapshotError(f"verifying {self._name}: the gzip stream is cut short", hint=_AGAIN)
        if self.lines != self._wanted_lines:
            raise CorruptSnapshotError(
                f"verifying {self._name}: it holds {self.lines} items, the manifest says {self._wanted_lines}",
                hint=_AGAIN,
            )
        return rest

    def _count(self, lines: list[bytes], tail: bytes) -> list[bytes]:
        # Only the first line can be long: the others came out of this one step.
        if len(tail) > LINE_MAX_BYTES or (lines and len(lines[0]) > LINE_MAX_BYTES):
            message = f"reading {self._name}: the line after line {self.lines} is longer than any item can be"
            raise CorruptSnapshotError(message, hint=_AGAIN)
        self._tail = tail
        found = [line for line in lines if line] if b"" in lines else lines
        self.lines += len(found)
        return found
