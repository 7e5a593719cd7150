"""The real daemon as a child process: started, watched, started again when someone kills it, stopped at the end."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from dyncdc.errors import FatalError

STOP_SECONDS = 15.0
PR_SET_PDEATHSIG = 1
TAIL_CHARS = 4000


class Daemon:
    """One ``python -m dyncdc run`` at a time. ``say`` is told what happened to it."""

    def __init__(self, config_file: Path, log_file: Path, say: Callable[[str], None]) -> None:
        self._command = (sys.executable, "-m", "dyncdc", "run", "-c", str(config_file))
        self._log_file = log_file
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self.restarts = 0

    @property
    def pid(self) -> int:
        """Process id of the daemon of the moment, 0 when there is none."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    async def start(self) -> None:
        """Start it. Its log is appended to, so that nothing of a killed one's is lost."""
        with self._log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the demo, which then stops the daemon itself
                preexec_fn=_die_with_parent,
            )

    async def keep_running(self) -> None:
        """Start it again whenever it ends. For a task of its own; ends by being cancelled.

        Raises FatalError when the daemon gives up by itself: starting it again would not help.
        """
        while self._process is not None:
            code = await self._process.wait()
            if code > 0 and code < 128:
                raise FatalError(
                    f"running the daemon: it exited with {code}: {self._last_words()}", hint=f"read {self._log_file}"
                )
            self.restarts += 1
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"stopped (exit {code})"
            ended = self._process.pid
            await self.start()
            self._say(f"the daemon (pid {ended}) was {how}: started again as pid {self.pid}")

    async def stop(self) -> None:
        """Let it drain; kill it if that takes too long."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def _last_words(self) -> str:
        """The last line of the log: the daemon says on one line why it leaves."""
        text = self._log_file.read_bytes()[-TAIL_CHARS:].decode(errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        return lines[-1].strip().removeprefix("dyncdc: ") if lines else "its log is empty"


def _die_with_parent() -> None:
    """Runs in the child before it becomes the daemon. Source: prctl(2), PR_SET_PDEATHSIG."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
