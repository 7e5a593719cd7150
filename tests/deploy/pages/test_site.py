"""The site of docs/ builds, strictly: every page is in the menu, every link and anchor leads somewhere."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support.repository.tools import ROOT, tool


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [tool("mkdocs"), "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "architecture.svg" in (tmp_path / "site" / "index.html").read_text()
