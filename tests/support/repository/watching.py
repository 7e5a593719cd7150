"""A real Prometheus over one daemon, with the rules of deploy/ at a pace that a test can wait for."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.processes.harness import die_with_parent, free_port, wait_until

from .tools import DEPLOY, tool

MINUTE_SECONDS = 2
"""What a minute of the rules' waiting takes here."""

WINDOW_SECONDS = 30
"""What the windows of 15 minutes and of an hour are here. Longer than a scenario takes to be noticed."""

LAG_SECONDS = 10
SCRAPE_SECONDS = 1

CONFIGURATION = """
global: {{scrape_interval: {scrape}s, evaluation_interval: {scrape}s, scrape_timeout: {scrape}s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: dyncdc
    file_sd_configs: [{{files: [targets.json], refresh_interval: 1s}}]
"""


def quick_rules(slower: int = 1) -> str:
    """The rules with shorter times and the same conditions. Everything else is as shipped."""
    text = (DEPLOY / "prometheus" / "dyncdc.rules.yml").read_text()
    text = re.sub(r"for: (\d+)m", lambda found: f"for: {int(found[1]) * MINUTE_SECONDS * slower}s", text)
    text = re.sub(r"\[(15m|1h)\]", f"[{WINDOW_SECONDS * slower}s]", text)
    text = text.replace("offset 1h", f"offset {WINDOW_SECONDS * slower}s")
    return re.sub(r"(unread_seconds\)) > 300", rf"\1 > {LAG_SECONDS}", text)


@dataclass
class Prometheus:
    """A server of its own, and every alert that it has fired since it was last asked."""

    port: int
    directory: Path
    _fired: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def get(self, path: str) -> Any:
        """The data of an answer of the API."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=5) as answer:
            return json.load(answer)["data"]

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            self.get("status/buildinfo")
        except OSError:
            return False
        return True

    def scrape(self, *ports: int) -> None:
        """Scrape the daemons on these ports, and nothing else."""
        targets = [{"targets": [f"127.0.0.1:{port}" for port in ports]}] if ports else []
        made = self.directory / "targets.new"
        made.write_text(json.dumps(targets))
        made.rename(self.directory / "targets.json")

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"}

    def watch(self) -> None:
        """Note what fires, until stopped."""
        while not self._stop.wait(SCRAPE_SECONDS / 2):
            with contextlib.suppress(OSError):
                self._fired |= self.firing()

    def await_only(self, alert: str, seconds: float) -> None:
        """Wait until an alert fires; fail when any other has fired since the start or the last ``await_silence``."""
        wait_until(lambda: self._fired, seconds, f"{alert} fires")
        assert self._fired == {alert}, self.get("alerts")

    def await_silence(self, seconds: float) -> set[str]:
        """Wait until nothing fires; return what has fired since the last time."""
        wait_until(lambda: not self.firing(), seconds, f"silence, but {self.firing()}")
        fired, self._fired = self._fired, set()
        return fired

    def stays_silent(self, seconds: float) -> None:
        """Nothing fires for so long, and the daemon is scraped."""
        time.sleep(seconds)
        assert not self._fired, self.get("alerts")
        up = self.get("query?query=up")["result"]
        assert [sample["value"][1] for sample in up] == ["1"], up


@contextlib.contextmanager
def prometheus(directory: Path, *ports: int, slower: int = 1) -> Iterator[Prometheus]:
    """Run a Prometheus over the daemons on these ports. Skips the test where there is none.

    ``slower``: by how much the rules wait longer, where a daemon's start must be short beside them.
    """
    directory.mkdir()
    (directory / "rules.yml").write_text(quick_rules(slower))
    (directory / "prometheus.yml").write_text(CONFIGURATION.format(scrape=SCRAPE_SECONDS))
    server = Prometheus(free_port(), directory)
    server.scrape(*ports)
    command = [
        tool("prometheus"),
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{server.port}",
        "--log.level=warn",
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, preexec_fn=die_with_parent)
    watcher = threading.Thread(target=server.watch)
    try:
        wait_until(server.ready, 20, f"Prometheus answers: {(directory / 'log').read_text()}")
        watcher.start()
        yield server
    finally:
        server._stop.set()
        process.terminate()
        process.wait(20)
        if watcher.is_alive():
            watcher.join(20)
