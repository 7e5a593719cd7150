"""What `make tools` fetches from Debian: where it cannot be had, that is said and the rest goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.repository.tools import ROOT

NEEDED = ("sh", "dirname", "mktemp", "rm", "tail", "mkdir", "awk", "cat")


@pytest.mark.parametrize("what", ["prometheus", "chromium"])
def test_what_cannot_be_had_is_said_in_a_line_and_is_no_failure(what: str, tmp_path: Path) -> None:
    (tmp_path / "tools" / "bin").mkdir(parents=True)
    (tmp_path / "path").mkdir()
    for name in NEEDED:
        (tmp_path / "path" / name).symlink_to(shutil.which(name) or "/missing")
    for name in ("apt-get", "apt-cache"):
        stub = tmp_path / "path" / name
        stub.write_text("#!/bin/sh\nexit 100\n")
        stub.chmod(0o755)
    environment = {**os.environ, "PATH": str(tmp_path / "path")}
    done = subprocess.run(
        ["sh", ROOT / "requirements" / f"fetch-{what}.sh", tmp_path / "tools"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("make: no ") and done.stderr.count("\n") == 1, done.stderr
    assert not list((tmp_path / "tools" / "bin").iterdir())
