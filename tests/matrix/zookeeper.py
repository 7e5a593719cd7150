"""ZooKeeper as a child process on loopback: Debian's jars under any Java, or under the one in ``.matrix/debian``."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Final

from support.processes.harness import die_with_parent, free_port, wait_until

from .engines import CACHE, NotHere

UNPACKED: Final = CACHE / "debian"
"""Where requirements/fetch-zookeeper.sh puts what the machine lacks."""

MAIN_CLASS: Final = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
JARS: Final = ("zookeeper.jar", "zookeeper-jute.jar", "slf4j-api.jar", "slf4j-simple.jar")
START_SECONDS = 30.0


def find_java() -> Path:
    """A Java. Raises NotHere."""
    found = shutil.which("java") or next(iter(sorted(UNPACKED.glob("usr/lib/jvm/*/bin/java"))), None)
    if found is None:
        raise NotHere("no java (Debian: default-jre-headless)")
    return Path(found)


def find_jars() -> list[Path]:
    """ZooKeeper's jars. Raises NotHere."""
    for root in (Path("/"), UNPACKED):
        jars = [root / "usr/share/java" / name for name in JARS]
        if all(jar.exists() for jar in jars):
            return jars
    raise NotHere("no ZooKeeper (Debian: zookeeper)")


class ZooKeeper:
    """One server, which keeps its port over restarts."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return once it says that it serves."""
        self._directory.mkdir(parents=True, exist_ok=True)
        configuration = self._directory / "zoo.cfg"
        configuration.write_text(
            f"tickTime=500\ndataDir={self._directory}/data\nclientPort={self.port}\nclientPortAddress=127.0.0.1\n"
            "admin.enableServer=false\n4lw.commands.whitelist=ruok\nmaxClientCnxns=0\n"
            "minSessionTimeout=1000\nmaxSessionTimeout=60000\n"
        )
        classes = os.pathsep.join(map(str, find_jars()))
        with (self._directory / "zookeeper.log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_java(), "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", classes, MAIN_CLASS, configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        wait_until(self._serves, START_SECONDS, f"ZooKeeper serves; its log is in {self._directory}")

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None, "ZooKeeper was not started"
        self._process.send_signal(number)

    def _serves(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "ZooKeeper has ended"
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"ruok")
                return connection.recv(4) == b"imok"
        except OSError:
            return False
