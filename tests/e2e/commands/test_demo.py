"""``dyncdc demo`` as its user sees it: a process, its output, its exit code."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from dyncdc.emulator.own_user import SECRET_PLACE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

END_SECONDS = 100.0
CORRUPTED = "customer_id = 'c-00042'"


@dataclass
class Demo:
    """A running demo; its lines as they come."""

    arguments: tuple[str, ...]
    lines: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        command = [sys.executable, "-m", "dyncdc", "demo", *self.arguments]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, encoding="utf-8")
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        with stream:
            for line in stream:
                lines.append(line.rstrip("\n"))  # noqa: PERF401 - they are read while they come

    def wait_for(self, pattern: str, seconds: float = 60.0) -> re.Match[str]:
        """The first match in any line so far, or yet to come."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if match := re.search(pattern, line):
                    return match
            assert self.process.poll() is None, "\n".join(self.lines + self.errors)
            time.sleep(0.05)
        raise AssertionError(f"no line matches {pattern!r}:\n" + "\n".join(self.lines))

    def end(self) -> int:
        """Wait for its end; return the exit code."""
        code = self.process.wait(END_SECONDS)
        self.close()
        return code

    def close(self) -> None:
        """Read what is left."""
        for reader in self._readers:
            reader.join(10)

    @property
    def output(self) -> str:
        return "\n".join(self.lines + self.errors)


Starter = Callable[..., Demo]


@pytest.fixture
def start() -> Iterator[Starter]:
    started: list[Demo] = []

    def run(*arguments: str) -> Demo:
        started.append(Demo(arguments))
        return started[-1]

    yield run
    for demo in started:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait()
        demo.close()


def ask(url: str, directory: Path, query: str) -> str:
    """ClickHouse's answer; "" while the table is not there."""
    headers = {"X-ClickHouse-User": "dyncdc", "X-ClickHouse-Key": (directory / "clickhouse" / SECRET_PLACE).read_text()}
    try:
        request = urllib.request.Request(url, data=query.encode(), headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode().strip())
    except urllib.error.HTTPError as error:
        with error:
            return ""


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_demo_ends_equal_although_the_daemon_is_killed(start: Starter) -> None:
    demo = start("--seconds", "8", "--rate", "50")
    pid = int(demo.wait_for(r"daemon started as pid (\d+)")[1])
    demo.wait_for("split shard")
    os.kill(pid, signal.SIGKILL)
    again = int(demo.wait_for(rf"the daemon \(pid {pid}\) was killed by SIGKILL: started again as pid (\d+)")[1])
    assert demo.end() == 0, demo.output
    assert re.fullmatch(r"EQUAL items=\d+ changes=\d+", demo.lines[-1]), demo.output
    items, changes = map(int, re.findall(r"\d+", demo.lines[-1]))
    assert items > 19_500
    assert changes > 200
    assert "merged shards" in demo.output
    assert _gone(again)


def test_row_corrupted_by_hand_ends_the_demo_with_4_and_names_the_key(start: Starter, tmp_path: Path) -> None:
    place = tmp_path / "demo"
    demo = start("--dir", str(place), "--seconds", "4", "--rate", "50", "--items", "1000")
    url = demo.wait_for(r"ClickHouse (http://\S+)")[1]
    demo.wait_for("daemon started")
    deadline = time.monotonic() + 30
    while ask(url, place, f"SELECT count() FROM customers WHERE {CORRUPTED}") in ("", "0"):
        assert time.monotonic() < deadline, demo.output
        time.sleep(0.1)
    ask(
        url,
        place,
        "INSERT INTO customers SELECT * REPLACE ('no one' AS name, _version + 1000000000000 AS _version) "
        f"FROM customers FINAL WHERE {CORRUPTED}",
    )
    assert demo.end() == 4, demo.output
    assert """customers {"customer_id":{"S":"c-00042"}}: differs in 'name'""" in demo.lines
    assert re.fullmatch(r"DIFFERENT items=\d+ changes=\d+ differing=1", demo.lines[-1]), demo.output


def test_interrupted_demo_stops_everything_and_exits_130(start: Starter, tmp_path: Path) -> None:
    demo = start("--dir", str(tmp_path / "demo"), "--items", "1000")
    pid = int(demo.wait_for(r"daemon started as pid (\d+)")[1])
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 130, demo.output
    assert _gone(pid)
    assert demo.errors == []


def test_directory_that_is_not_empty_is_refused_in_one_line(start: Starter, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    demo = start("--dir", str(tmp_path))
    assert demo.end() == 2
    assert demo.lines == []
    assert demo.errors == [
        f"dyncdc: using the directory {tmp_path}: it is not empty; name a new or empty one",
    ]
