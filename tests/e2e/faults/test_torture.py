"""One random history of ``make torture``, so that the torture itself stays sound."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.processes.harness import ClickHouseHttp, die_with_parent
from torture.processes.clickhouse import USER, TorturedClickHouse
from torture.processes.clock import Clock, build_preload

from dyncdc.errors import FatalError

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


async def test_the_daemons_user_gets_the_odd_profile_when_the_server_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches: a start that writes its configuration by another way, so that no profile is ever odd."""

    async def end_at_once() -> None:
        raise FatalError("it ended at once")

    server = TorturedClickHouse(tmp_path, Clock(tmp_path / "preload.so", "server"))
    server.profile = {"extremes": 1}
    monkeypatch.setattr(server, "_spawn", end_at_once)
    with pytest.raises(FatalError):
        await server.start()
    users = (tmp_path / "users.xml").read_text()
    assert "<extremes>1</extremes>" in users
    assert "<profile>odd</profile>" in users.partition(f"<{USER}>")[2]


async def test_the_clocks_of_daemon_and_clickhouse_are_off_by_what_the_torture_says(tmp_path: Path) -> None:
    """Catches: a kernel that lets no one write to the vDSO, and every step of a clock counted though none was off."""
    preload = build_preload(tmp_path)
    clock = Clock(preload, "server")
    server = TorturedClickHouse(tmp_path / "server", clock)
    await server.start()
    try:
        for off in (3600.0, -45.0, 0.0):
            clock.step(off)
            assert abs(clock.seen_off_seconds() - off) < 2.0
            if platform.machine() == "x86_64":
                now = ClickHouseHttp(server.http_port).number("SELECT toInt64(toFloat64(now64(3)))")
                assert abs(now - time.time() - off) < 2.0
    finally:
        await server.stop()
