"""Processes of the end-to-end tests: the daemon, single commands, and what can be seen of them from outside."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

from .forkserver import PR_SET_PDEATHSIG, Forked, ForkServer

START_SECONDS = 20.0
BUSY_MACHINE = 3
"""How much longer everything may take where others work too. Nothing waits for as long when all is well."""

DEBUG = ("--debug",) if os.environ.get("DYNCDC_E2E_DEBUG") else ()
LOG_TAIL_CHARS = 3000
T = TypeVar("T")

forks: list[ForkServer] = []
"""What starts the product's processes where the start of an interpreter is not the point; empty: nothing does."""


def free_port() -> int:
    """A port of 127.0.0.1 that no one uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(
    condition: Callable[[], T], seconds: float, what: str, *, pause_seconds: float = 0.05, strict: bool = False
) -> T:
    """Poll until ``condition`` is true and return its answer; fail naming ``what``.

    ``seconds`` is what a free machine needs at the very most; one that is busy is given longer, unless ``strict``.
    """
    seconds *= 1 if strict else BUSY_MACHINE
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(pause_seconds)


def die_with_parent() -> None:
    """Run in a child before it becomes something else. Source: prctl(2), PR_SET_PDEATHSIG.

    Who runs the tests in the background of a shell has SIGINT ignored, and with them all that they start.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that no one has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def resident_bytes(pid: int, field_name: str = "VmRSS") -> int:
    """A process's resident memory; ``VmHWM`` for its peak."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field_name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {field_name} for process {pid}")


def start_product(
    arguments: Sequence[str], environment: Mapping[str, str], files: tuple[int, int, int]
) -> subprocess.Popen[bytes] | Forked:
    """Start ``dyncdc`` with stdin, stdout and stderr on these files."""
    if forks and forks[0].can_start(environment):
        return forks[0].start(arguments, environment, files)
    stdin, stdout, stderr = files
    command = [sys.executable, "-m", "dyncdc", *arguments]
    return subprocess.Popen(
        command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment, preexec_fn=die_with_parent
    )


@dataclass
class Daemon:
    """``dyncdc run`` as a child process, as often as it is started."""

    config: Path
    http_port: int
    environment: dict[str, str]
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | Forked | None = field(default=None, init=False)
    output: Path | None = field(default=None, init=False)
    """Where it writes, instead of to the log. No one reads that."""

    @property
    def log(self) -> Path:
        """What all its sessions wrote to stdout and stderr."""
        return self.config.with_suffix(".log")

    def tail(self) -> str:
        """The end of the log."""
        return self.log.read_text(errors="replace")[-LOG_TAIL_CHARS:] if self.log.exists() else ""

    def start(self) -> Daemon:
        """Start the process; does not wait."""
        arguments = ["run", "-c", str(self.config), *DEBUG, *self.arguments]
        with (self.output or self.log).open("ab") as log, open(os.devnull) as nothing:
            files = (nothing.fileno(), log.fileno(), log.fileno())
            self.process = start_product(arguments, self.environment, files)
        return self

    def started(self) -> subprocess.Popen[bytes] | Forked:
        """The process; fails when there was none yet."""
        assert self.process is not None, "the daemon was not started"
        return self.process

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.started().pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        self.started().send_signal(number)

    def wait(self, seconds: float = 40.0) -> int:
        """Wait for the process to end; return its exit code."""
        try:
            return self.started().wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the daemon has not ended within {seconds:g} s: {self.tail()}") from None

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self.running:
            self.signal(signal.SIGKILL)
            self.wait()

    def terminate(self, seconds: float = 40.0) -> int:
        """SIGTERM, and wait."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page; 0 when the daemon does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> bool:
        """Whether /readyz says so; fails when the process has ended."""
        code = self.started().poll()
        assert code is None, f"the daemon ended with {code}: {self.tail()}"
        return self.get("/readyz")[0] == 200

    def wait_ready(self) -> None:
        """Wait until /readyz says so."""
        wait_until(self.ready, START_SECONDS, f"the daemon is ready: {self.tail()}")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels; 0 when there is none."""
        found = 0.0
        for line in self.get("/metrics")[1].splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(f'{key}="{text}"' in sample for key, text in labels.items()):
                found += float(value)
        return found


@contextlib.contextmanager
def running(daemon: Daemon) -> Iterator[Daemon]:
    """Start the daemon, wait until it is ready, and kill it at the end if it still runs."""
    daemon.start()
    try:
        daemon.wait_ready()
        yield daemon
    finally:
        daemon.kill()


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines on stderr that are for people: all but the log, which is JSON there."""
        return [line for line in self.err.splitlines() if not line.startswith("{")]


def command(*arguments: str, environment: dict[str, str], seconds: float = 60.0) -> Ended:
    """Run one ``dyncdc`` command to its end."""
    with open(os.devnull) as nothing, TemporaryFile() as out, TemporaryFile() as err:
        process = start_product(arguments, environment, (nothing.fileno(), out.fileno(), err.fileno()))
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired as late:
            process.send_signal(signal.SIGKILL)
            process.wait()
            err.seek(0)
            late.add_note(err.read().decode(errors="replace")[-4_000:])
            raise
        out.seek(0)
        err.seek(0)
        return Ended(code, out.read().decode(), err.read().decode())


@dataclass(frozen=True)
class ClickHouseHttp:
    """Queries over ClickHouse's HTTP port: a path that the product itself does not use."""

    port: int
    database: str = "default"
    password: str = ""

    def _ask(self, sql: str, settings: str = "") -> bytes:
        url = f"http://127.0.0.1:{self.port}/?database={self.database}{settings}"
        try:
            headers = {"X-ClickHouse-User": "dyncdc", "X-ClickHouse-Key": self.password} if self.password else {}
            request = urllib.request.Request(url, data=sql.encode(), headers=headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"ClickHouse refused {sql[:200]!r}: {error.read()[:500]!r}") from None

    def dicts(self, sql: str) -> list[dict[str, object]]:
        """Rows of a SELECT by column; integers of 64 bits and more, and decimals, as text."""
        settings = "&output_format_json_quote_64bit_integers=1&output_format_json_quote_decimals=1"
        lines = self._ask(f"{sql} FORMAT JSONEachRow", settings).splitlines()
        return [json.loads(line) for line in lines]

    def rows(self, sql: str) -> list[list[object]]:
        """Rows of a SELECT."""
        return [list(row.values()) for row in self.dicts(sql)]

    def value(self, sql: str) -> object:
        """The one value of a SELECT."""
        return self.rows(sql)[0][0]

    def number(self, sql: str) -> int:
        """The one value of a SELECT, an integer."""
        return int(str(self.value(sql)))

    def run(self, sql: str) -> None:
        """A statement without an answer."""
        self._ask(sql)

    def tables(self) -> set[str]:
        """Names of the tables and views in the database."""
        names = self.rows(f"SELECT name FROM system.tables WHERE database = '{self.database}'")
        return {str(name) for (name,) in names}


def environment() -> dict[str, str]:
    """The environment of every process of the product: ours, with credentials, and nothing that sets its keys."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DYNCDC_", "AWS_"))}
    if "AWS_CA_BUNDLE" in os.environ:
        kept["AWS_CA_BUNDLE"] = os.environ["AWS_CA_BUNDLE"]
    kept.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", PYTHONUNBUFFERED="1")
    return kept
