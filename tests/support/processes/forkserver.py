"""A process that has imported the product and forks: a command starts without the second that its imports take.

What is forked is a process like any other - its own id, signals, environment, files and exit code - and runs
``dyncdc.__main__.main``. Only the start of the interpreter is not its own: a test about that starts one.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
LARGEST_REQUEST_BYTES = 1 << 20
OF_THE_INTERPRETER = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "LC_", "LANG", "TZ", "OPENSSL_", "SSL_")
"""Variables that are read when an interpreter starts or imports: a process with others than ours needs its own."""


class Forked:
    """A forked process, as ``subprocess.Popen`` shows one."""

    def __init__(self, control: socket.socket, command: Sequence[str]) -> None:
        self._control = control
        self._command = command
        self.returncode: int | None = None
        self.pid = int(control.recv(32))

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code: minus the signal's number when it was killed."""
        if self.returncode is None:
            self._control.settimeout(timeout)
            try:
                said = self._control.recv(32)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self._command, timeout or 0) from None
            assert said, f"the parent of {self.pid} is gone"
            self.returncode = int(said)
            self._control.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal. Its parent keeps its number until the exit code is on its way."""
        if self.poll() is None:
            os.kill(self.pid, number)


class ForkServer:
    """Starts the server, and processes by it. ``close`` ends both."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def can_start(self, environment: Mapping[str, str]) -> bool:
        """Whether a process with that environment may share the interpreter's start with ours."""
        names = {name for name in (*environment, *os.environ) if name.startswith(OF_THE_INTERPRETER)}
        names.discard("PYTHONUNBUFFERED")
        return all(environment.get(name) == os.environ.get(name) for name in names)

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], files: tuple[int, int, int]) -> Forked:
        """Start ``dyncdc`` with stdin, stdout and stderr on these files."""
        request = {"arguments": list(arguments), "environment": dict(environment), "directory": str(Path.cwd())}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self._lock:
            socket.send_fds(self._running(), [json.dumps(request).encode()], [theirs.fileno(), *files])
        return Forked(ours, arguments)

    def _running(self) -> socket.socket:
        if self._requests is None:
            self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._server = subprocess.Popen(
                    [sys.executable, "-c", f"from {__name__} import serve; serve({theirs.fileno()})"],
                    env=dict(os.environ, PYTHONUNBUFFERED="1", PYTHONPATH=_python_path()),
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # an interrupt from the terminal is for the tests
                    preexec_fn=_heed_interrupts,
                )
        return self._requests

    def close(self) -> None:
        """End the server. What it has started ends with it."""
        if self._requests is not None and self._server is not None:
            self._requests.close()
            self._server.wait(20)


def _python_path() -> str:
    here = str(Path(__file__).parents[2])
    return os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH", ""))))


def _heed_interrupts() -> None:
    """Who runs the tests in the background of a shell has SIGINT ignored, and with them all that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _die_with_parent() -> None:
    """Source: prctl(2), PR_SET_PDEATHSIG."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def serve(descriptor: int) -> None:
    """Fork a process for each request until no one can send one any more. Returns in no other process than its own."""
    from dyncdc import __main__

    gc.collect()
    gc.freeze()
    sys.path.remove(str(Path(__file__).parents[2]))
    requests = socket.socket(fileno=descriptor)
    while True:
        request, files, _, _ = socket.recv_fds(requests, LARGEST_REQUEST_BYTES, 4)
        with contextlib.suppress(ChildProcessError):  # so that their CPU time counts as ours
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            return _keep(json.loads(request), files, __main__.main)
        for file in files:
            os.close(file)


def _keep(request: Mapping[str, object], files: Sequence[int], main: Callable[[], None]) -> None:
    """Be the parent of one process, and tell its number and its exit code."""
    _die_with_parent()
    with socket.socket(fileno=files[0]) as control:
        pid = os.fork()
        if pid:
            for file in files[1:]:
                os.close(file)
            control.sendall(str(pid).encode())
            _, status = os.waitpid(pid, 0)
            with contextlib.suppress(OSError):  # no one has waited for it
                control.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
    _become(request, files[1:])
    main()


def _become(request: Mapping[str, object], files: Sequence[int]) -> None:
    _die_with_parent()
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    arguments, environment = request["arguments"], request["environment"]
    assert isinstance(arguments, list) and isinstance(environment, dict)
    os.chdir(str(request["directory"]))
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["dyncdc", *arguments]
