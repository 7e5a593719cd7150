"""A process of the product that was forked is like one that has started its own interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes.forkserver import Forked
from support.processes.harness import command, environment, forks, start_product, wait_until

MISSING = ("status", "-c", "/does/not/exist.toml")


@pytest.mark.usefixtures("forking")
def test_a_forked_command_says_and_returns_what_one_of_its_own_interpreter_does() -> None:
    forked = command(*MISSING, environment=environment())
    own = subprocess.run([sys.executable, "-m", "dyncdc", *MISSING], capture_output=True, text=True, check=False)
    assert (forked.code, forked.out, forked.err) == (own.returncode, own.stdout, own.stderr)
    assert forked.code == 2


@pytest.mark.usefixtures("forking")
def test_a_forked_process_has_its_own_environment_and_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = environment() | {"DYNCDC_CONFIG": "here.toml"}
    assert "here.toml" in command("status", environment=named).err
    assert "here.toml" not in command("status", environment=environment()).err


@pytest.mark.usefixtures("forking")
def test_a_forked_process_that_is_killed_ends_by_that_signal(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out, open(os.devnull) as nothing:
        process = start_product(
            ("local-aws", "--port", "0"), environment(), (nothing.fileno(), out.fileno(), out.fileno())
        )
    assert isinstance(process, Forked)
    wait_until((tmp_path / "out").read_text, 20, "it runs")
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    assert process.wait(20) == process.poll() == -signal.SIGKILL


@pytest.mark.usefixtures("forking")
@pytest.mark.parametrize("name", ["PYTHONPATH", "LD_PRELOAD", "MALLOC_ARENA_MAX", "TZ"])
def test_what_an_interpreter_reads_at_its_start_takes_one_of_its_own(name: str) -> None:
    assert forks[0].can_start(environment())
    assert not forks[0].can_start(environment() | {name: "other"})
