"""The ClickHouse child process: ``clickhouse-local`` of the chdb-core wheel, serving like any server.

``python -m dyncdc.emulator.clickhouse_child DIRECTORY TCP_PORT HTTP_PORT``, where DIRECTORY holds config.xml. It uses
an undocumented entry point of the wheel, which is therefore pinned. Started by ``dyncdc.emulator.clickhouse`` only.
"""

from __future__ import annotations

import fcntl
import importlib.machinery
import importlib.util
import json
import os
import signal
import struct
import sys
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .children import announce, watch_parent

ENDPOINT_FILE = "endpoint.json"
NO_WHEEL_EXIT = 3
ORPHAN_GRACE_SECONDS = 0.5
"""An orphan ends cleanly within this time or not at all: acknowledged inserts survive both."""

STOP_GRACE_SECONDS = 8.0
"""ClickHouse waits 5 s for clients that are still connected."""


def load_engine() -> Any:
    """Return the wheel's extension module without importing ``chdb``, which would start its own engine."""
    spec = importlib.util.find_spec("chdb")
    for base in (spec.submodule_search_locations if spec else None) or ():
        path = os.path.join(base, "_chdb.abi3.so")
        if os.path.exists(path):
            loader = importlib.machinery.ExtensionFileLoader("_chdb", path)
            file_spec = importlib.util.spec_from_file_location("_chdb", path, loader=loader)
            if file_spec is not None:
                module = importlib.util.module_from_spec(file_spec)
                loader.exec_module(module)
                return module
    return None


class Engine:
    """The server: it runs while its last statement reads from a pipe, and shuts down cleanly when that ends."""

    def __init__(self, module: Any, directory: Path) -> None:
        self._module = module
        self._directory = directory
        self._reading, self._writing = os.pipe()
        os.write(self._writing, b"\n")
        self.ended = threading.Event()
        self.error = ""
        threading.Thread(target=self._serve, name="engine", daemon=True).start()

    def _serve(self) -> None:
        pipe = f"file('/dev/fd/{self._reading}', 'LineAsString', 'line String')"
        statements = f"SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; SELECT * FROM {pipe} FORMAT Null"
        try:
            self._module.query(statements, "TabSeparated", path=str(self._directory / "data"))
        except RuntimeError as error:  # what the extension raises for every error of the server
            self.error = str(error)
        finally:
            self.ended.set()

    def serving(self) -> bool:
        """Whether the last statement has begun to read, so that both listeners are open.

        That something accepts on our ports would prove nothing: another server may hold them.
        """
        waiting = fcntl.ioctl(self._reading, termios.FIONREAD, struct.pack("i", 0))
        return struct.unpack("i", waiting) == (0,)

    def stop(self) -> None:
        """End the statement that keeps the server alive. Once."""
        os.close(self._writing)


def main(arguments: list[str]) -> int:
    """Serve until stdin ends, the parent is gone, or SIGTERM or SIGINT arrives."""
    directory, tcp_port, http_port = Path(arguments[0]).resolve(), int(arguments[1]), int(arguments[2])
    module = load_engine()
    if module is None:
        sys.stderr.write("the chdb-core wheel is not installed\n")
        return NO_WHEEL_EXIT
    stop = threading.Event()
    orphaned = threading.Event()

    def leave_orphaned() -> None:
        orphaned.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    watch_parent(stop.set, leave_orphaned)
    os.chdir(directory)  # ./config.xml is read from here
    os.environ["HOME"] = str(directory)
    engine = Engine(module, directory)
    endpoint: dict[str, object] = {"pid": os.getpid(), "tcp_port": tcp_port, "http_port": http_port}
    if _wait_until_serving(engine, stop):
        _write_endpoint(directory, endpoint)
        announce(endpoint)
        while not stop.wait(0.2) and not engine.ended.is_set():
            pass
        (directory / ENDPOINT_FILE).unlink(missing_ok=True)
    engine.stop()
    _wait_until_ended(engine, orphaned)
    sys.stderr.write(engine.error)
    return 1 if engine.error else 0


def _wait_until_serving(engine: Engine, stop: threading.Event) -> bool:
    while not engine.serving():
        if stop.is_set() or engine.ended.wait(0.01):
            return False
    return True


def _wait_until_ended(engine: Engine, orphaned: threading.Event) -> None:
    deadline = time.monotonic() + STOP_GRACE_SECONDS
    while time.monotonic() < deadline and not engine.ended.wait(0.05):
        if orphaned.is_set():
            engine.ended.wait(ORPHAN_GRACE_SECONDS)
            return


def _write_endpoint(directory: Path, endpoint: Mapping[str, object]) -> None:
    temporary = directory / f".{ENDPOINT_FILE}.{os.getpid()}"
    temporary.write_text(json.dumps(dict(endpoint)))
    temporary.replace(directory / ENDPOINT_FILE)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # the engine's own threads do not survive a normal exit of the interpreter
