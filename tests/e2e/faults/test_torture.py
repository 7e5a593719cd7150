"""One random history of ``make torture``, so that the torture itself stays sound."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes.harness import die_with_parent

SEED = 3
TESTS = Path(__file__).parents[2]


@pytest.mark.timeout(250)
def test_a_random_history_with_faults_ends_equal_and_is_counted() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torture", "--seed", str(SEED)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        timeout=230,
        check=False,
        preexec_fn=die_with_parent,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert "EQUAL: no differences" in done.stdout
    injected = [line for line in done.stdout.splitlines() if line.startswith("| all: ")]
    assert len(injected) == 1, done.stdout
