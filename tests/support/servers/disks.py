"""Disks that tests may fill or make read-only: file systems of their own, where mounting one is permitted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@contextmanager
def small_disk(directory: Path, mebibytes: int) -> Iterator[Path]:
    """Mount one of so many MiB at a new directory; skips the test where that is not permitted."""
    directory.mkdir()
    if not _mount("-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(directory)):
        pytest.skip("a full disk needs the right to mount one")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Let the disk be full to the last byte while the block runs."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        try:
            while True:
                file.write(bytes(2**16))
                file.flush()
        except OSError:
            pass
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Let whatever is opened below a directory from now on be read-only; files that are open can still be written."""
    place = str(directory)
    assert _mount("--bind", place, place) and _mount("-o", "remount,bind,ro", place)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
