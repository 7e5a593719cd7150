"""A clock that is off: the time of day of one process steps back or ahead while it runs. See clock.c."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")
PRELOAD = "clock.so"
NANOSECONDS = 1_000_000_000


def build_preload(directory: Path) -> Path:
    """Compile what is preloaded into processes whose clock is to be off."""
    made = directory / PRELOAD
    compiler = ["cc", "-O1", "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-ldl"]
    subprocess.run(compiler, check=True, capture_output=True)
    return made


class Clock:
    """The clock of the processes that run with this ``environment``."""

    def __init__(self, preload: Path, name: str) -> None:
        self._file = preload.with_name(f"{name}.clock")
        self._file.write_bytes(struct.pack("q", 0))
        self.environment = {"LD_PRELOAD": str(preload), "TORTURE_CLOCK": str(self._file)}

    def step(self, off_seconds: float) -> None:
        """Be off by so much from now on."""
        with self._file.open("r+b", buffering=0) as file:  # in place: it is mapped
            file.write(struct.pack("q", int(off_seconds * NANOSECONDS)))

    def seen_off_seconds(self) -> float:
        """How far a Python process with this clock is off."""
        command = [sys.executable, "-S", "-c", "import time; print(time.time())"]
        seen = subprocess.run(command, check=True, capture_output=True, env={**os.environ, **self.environment})
        return float(seen.stdout) - time.time()
