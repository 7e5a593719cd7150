"""Child processes: start one, wait for its ready line, stop it cleanly; and the child's half of the same agreement.

The agreement: the child writes one line of JSON to its stdout when it serves, and ends when its stdin ends. The parent
holds the other end of that pipe, so the child cannot outlive it, not even after SIGKILL. No framework, no servers here.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dyncdc.errors import FatalError

POLL_SECONDS = 0.01
"""How often an ending child is looked at; nothing waits for it but its own stop."""

PARENT_POLL_SECONDS = 0.25
"""How often a child looks whether its parent is still the same one."""

LOG_TAIL_BYTES = 4096


class ChildFailed(FatalError):
    """A child ended, or said nothing, before it was ready. ``log`` is the end of what it wrote to its stderr."""

    def __init__(self, message: str, *, returncode: int | None, log: str) -> None:
        super().__init__(message, hint=f"its last words: {log.splitlines()[-1][:300]}" if log.strip() else "")
        self.returncode = returncode
        self.log = log


class Child:
    """A running child process. Made by ``start_child``; bound to no event loop."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log_file: Path) -> None:
        self.name = name
        self.ready: Mapping[str, object] = {}
        """What its ready line said."""
        self._process = process
        self._log_file = log_file

    @property
    def pid(self) -> int:
        """Process id, for signals."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative signal number, or None while it runs."""
        return self._process.poll()

    def log(self) -> str:
        """Return the end of what it wrote to its stderr."""
        with self._log_file.open("rb") as log:
            log.seek(max(0, self._log_file.stat().st_size - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").strip()

    async def wait(self, timeout_seconds: float) -> int | None:
        """Wait for its end; None when it still runs after ``timeout_seconds``."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while self._process.poll() is None and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - no event
            await asyncio.sleep(POLL_SECONDS)
        return self._process.poll()

    async def stop(self, grace_seconds: float) -> None:
        """Close its stdin and wait for its end; SIGKILL after ``grace_seconds``, or when cancelled. Idempotent."""
        try:
            self._close(self._process.stdin)
            await self.wait(grace_seconds)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once with SIGKILL. Idempotent."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._close(self._process.stdin)
        self._close(self._process.stdout)

    @staticmethod
    def _close(pipe: object) -> None:
        try:
            pipe.close()  # type: ignore[attr-defined]
        except BrokenPipeError:
            pass  # it has gone already


async def start_child(
    arguments: Sequence[str],
    *,
    name: str,
    log_file: Path,
    ready_timeout_seconds: float,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Child:
    """Start a process of this Python and wait for its ready line. ``arguments`` follow the interpreter's name.

    Its stderr goes to ``log_file``, which is emptied first; ``environment`` is added to ours.

    Raises:
        ChildFailed: it ended, or was silent for ``ready_timeout_seconds``; nothing of it is left running.
    """
    child = _spawn(arguments, name, log_file, directory, environment)
    try:
        async with asyncio.timeout(ready_timeout_seconds):
            line = await _first_line(child._process)
        if line:
            child.ready = json.loads(line)
            return child
        await child.wait(1.0)
        raise ChildFailed(f"starting {name}: it ended at once", returncode=child.returncode, log=child.log())
    except TimeoutError:
        child.kill()
        message = f"starting {name}: not ready after {ready_timeout_seconds:.0f} s"
        raise ChildFailed(message, returncode=None, log=child.log()) from None
    except BaseException:
        child.kill()
        raise


def _spawn(
    arguments: Sequence[str], name: str, log_file: Path, directory: Path | None, environment: Mapping[str, str] | None
) -> Child:
    with log_file.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            # its own process group: Ctrl-C on the terminal is for us, and we stop it when its clients have gone
            process_group=0,
        )
    return Child(name, process, log_file)


async def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    """Return the first line of its stdout, b"" when it ended without one."""
    if process.stdout is None:
        return b""
    loop = asyncio.get_running_loop()
    file, received, found = process.stdout.fileno(), bytearray(), loop.create_future()

    def on_readable() -> None:
        data = os.read(file, 65536)
        received.extend(data)
        if (not data or b"\n" in data) and not found.done():
            found.set_result(None)

    loop.add_reader(file, on_readable)
    try:
        await found
    finally:
        loop.remove_reader(file)
    line, newline, _ = bytes(received).partition(b"\n")
    return line if newline else b""


def announce(ready: Mapping[str, object]) -> None:
    """Say that this child serves: the ready line. Whatever is written to stdout later goes to the log instead."""
    sys.stdout.write(json.dumps(dict(ready)) + "\n")
    sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def watch_parent(on_told: Callable[[], None], on_orphaned: Callable[[], None]) -> None:
    """Call, from threads, ``on_told`` when stdin ends and ``on_orphaned`` when the parent is gone.

    The end of stdin comes first, and may not come at all: another child may hold a copy of the pipe.
    """
    parent = os.getppid()

    def watch_stdin() -> None:
        while os.read(0, 65536):
            pass
        on_told()

    def watch_id() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_SECONDS)
        on_orphaned()

    for target in (watch_stdin, watch_id):
        threading.Thread(target=target, name=target.__name__, daemon=True).start()
