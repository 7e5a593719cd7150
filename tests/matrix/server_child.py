"""The clickhouse-server inside an older chdb wheel, as a child process.

``python server_child.py LIBRARY DIRECTORY TCP_PORT HTTP_PORT``, by the agreement of ``dyncdc.emulator.children``. The
process is the server: a signal to it is one to the server. The entry point is undocumented, so the wheels are pinned.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
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
    watch_parent(lambda: os.kill(os.getpid(), signal.SIGTERM), lambda: os.kill(os.getpid(), signal.SIGKILL))
    threading.Thread(target=_announce_when_serving, args=(tcp_port, http_port), daemon=True).start()
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


def _announce_when_serving(tcp_port: int, http_port: int) -> None:
    """Say that it serves. The server closes every file but 0, 1 and 2 at its start, so nothing else would do."""
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/ping", timeout=1) as answer:
                if answer.read() == b"Ok.\n":
                    break
        except (OSError, ValueError):
            pass  # it does not listen yet, or was cut
        time.sleep(0.05)
    announce({"pid": os.getpid(), "tcp_port": tcp_port, "http_port": http_port})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).resolve(), int(sys.argv[3]), int(sys.argv[4]))
