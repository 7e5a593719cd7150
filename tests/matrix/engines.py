"""Engines: ClickHouse of several versions, each a pinned wheel that is unpacked into a folder of its own."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CACHE: Final = Path(os.environ.get("DYNCDC_MATRIX_CACHE") or Path(__file__).parents[2] / ".matrix")
FETCH_SECONDS: Final = 900.0
REPLICATED: Final = "25.8"
"""The engine of the clusters: a whole server, which can be a replica."""


class NotHere(Exception):
    """What a scenario needs cannot be had on this machine. The text says what."""


@dataclass(frozen=True)
class Engine:
    """``whole``: the wheel holds a whole clickhouse-server; else a clickhouse-local that can be made to listen."""

    name: str
    wheel: str
    whole: bool

    @property
    def folder(self) -> Path:
        """Where the wheel is unpacked, for PYTHONPATH."""
        return CACHE / "engines" / self.wheel.replace("==", "-")

    @property
    def library(self) -> Path | None:
        """The wheel's extension module, if it is there."""
        return next(iter(self.folder.glob("chdb/_chdb*.so")), None)

    @property
    def of_the_environment(self) -> bool:
        """Whether this Python has the very wheel installed: then there is nothing to fetch."""
        name, _, version = self.wheel.partition("==")
        try:
            return importlib.metadata.version(name) == version
        except importlib.metadata.PackageNotFoundError:
            return False


_ALL: Final = (
    Engine("24.5", "chdb==2.0.4", True),
    Engine("24.8", "chdb==2.1.1", True),
    Engine("25.5", "chdb==3.4.1", True),
    Engine("25.8", "chdb==3.7.2", True),
    Engine("26.7", "chdb-core==26.7.3", False),
    Engine("26.9", "chdb-core==26.9.0", False),
)
ENGINES: Final[Mapping[str, Engine]] = {engine.name: engine for engine in _ALL}


def present(engine: Engine) -> bool:
    """Whether it can be started without fetching anything."""
    return engine.of_the_environment or engine.library is not None


def fetch(engine: Engine) -> None:
    """Unpack the wheel unless it is there: 0.5 to 0.85 GB. Raises NotHere where it cannot be had."""
    if present(engine):
        return
    partial = engine.folder.with_name(f"{engine.folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    try:
        done = subprocess.run(
            [*pip, "--no-deps", "--only-binary", ":all:", "--target", str(partial), engine.wheel],
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotHere(f"{engine.wheel}: not fetched within {FETCH_SECONDS:.0f} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise NotHere(f"{engine.wheel}: {last}")
    partial.rename(engine.folder)
    if engine.library is None:
        raise NotHere(f"{engine.wheel} holds no engine")
