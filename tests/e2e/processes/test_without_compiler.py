"""The whole program where no C compiler was found: slower, and as right."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_demo_ends_equal_without_the_compiled_decoders(without_compiler: dict[str, str]) -> None:
    command = [sys.executable, "-m", "dyncdc", "demo", "--seconds", "4", "--rate", "50", "--items", "1000"]
    ended = subprocess.run(command, env=without_compiler, capture_output=True, text=True, timeout=110)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"^EQUAL items=\d+ changes=\d+$", ended.stdout, re.MULTILINE), ended.stdout
