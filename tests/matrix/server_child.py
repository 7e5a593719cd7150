"""The clickhouse-server inside an older chdb wheel, as a child process.

``python server_child.py LIBRARY DIRECTORY TCP_PORT HTTP_PORT``, by the agreement of ``dyncdc.emulator.children``. The
process is the server: a signal to it is one to the server. The entry point is undocumented, so the wheels are pinned.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import signal
import sys
import time
import urllib.request
from pathlib import Path

from dyncdc.emulator.children import announce, watch_parent

ENTRY = "_Z25mainEntryClickHouseServeriPPc"


def main(library: str, directory: Path, tcp_port: int, http_port: int) -> None:
    """Become the server."""
    os.environ["CLICKHOUSE_WATCHDOG_ENABLE"] = "0"
    os.chdir(directory)
    extra = directory / "conf.d"
    extra.mkdir(exist_ok=True)
    (extra / "paths.xml").write_text(_paths(directory))
    _fork_announcer(tcp_port, http_port)
    os.dup2(2, 1)
    watch_parent(lambda: os.kill(os.getpid(), signal.SIGTERM), lambda: os.kill(os.getpid(), signal.SIGKILL))
    entry = ctypes.CDLL(library, mode=os.RTLD_NOW)[ENTRY]
    entry.restype = ctypes.c_int
    arguments = [b"clickhouse-server", f"--config-file={directory}/config.xml".encode()]
    code = entry(len(arguments), (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None))
    os._exit(code)  # Python's own end would wait for threads that the server has left


def _paths(directory: Path) -> str:
    folders = {"path": "data", "tmp_path": "tmp", "user_files_path": "user_files", "format_schema_path": "schemas"}
    places = "".join(f"<{key}>{directory}/{name}/</{key}>" for key, name in folders.items())
    log = f"<level>information</level><log>{directory}/clickhouse.log</log><size>100M</size><count>1</count>"
    return (
        f"<clickhouse>{places}<logger>{log}</logger><shutdown_wait_unfinished>1</shutdown_wait_unfinished></clickhouse>"
    )


def _fork_announcer(tcp_port: int, http_port: int) -> None:
    """Say from a process of its own that the server serves.

    The server closes every file but 0, 1 and 2 at its start. A socket of ours among them would then be closed once more
    by us, when its number is already that of a file of the server.
    """
    server = os.getpid()
    if os.fork():
        return
    while os.getppid() == server:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/ping", timeout=1) as answer:
                if answer.read() == b"Ok.\n":
                    announce({"pid": server, "tcp_port": tcp_port, "http_port": http_port})
                    break
        except (OSError, http.client.HTTPException):
            pass  # it does not listen yet, or was cut
        time.sleep(0.05)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).resolve(), int(sys.argv[3]), int(sys.argv[4]))
