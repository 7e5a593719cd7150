"""What the daemon on this machine says of itself over HTTP; that it does not answer is an answer too."""

from __future__ import annotations

import urllib.error
import urllib.request

import msgspec

from dyncdc.config import Config
from dyncdc.telemetry.status import DaemonStatus
from dyncdc.telemetry.status.model import decode

PROBE_SECONDS = 2.0
LONGEST_BYTES = 16_000_000

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Never through a proxy of the environment: the daemon is on this machine."""


def daemon_state(config: Config) -> str:
    """Ask the daemon's own health page. Blocks for two seconds at most."""
    try:
        with _DIRECT.open(f"{_base(config)}/healthz", timeout=PROBE_SECONDS) as answer:
            lines = answer.read(2000).decode(errors="replace").split("\n")
            return "; ".join(line for line in lines if line) if answer.status == 200 else "unknown"
    except urllib.error.HTTPError as error:
        lines = error.read(2000).decode(errors="replace").split("\n")
        return f"stuck: {'; '.join(line for line in lines if line)}"
    except OSError:
        return f"not answering on {_base(config).removeprefix('http://')}"


def daemon_document(config: Config) -> DaemonStatus | None:
    """Ask for the document of its status page; None when there is none to be had. Blocks for two seconds at most."""
    try:
        with _DIRECT.open(f"{_base(config)}/status.json", timeout=PROBE_SECONDS) as answer:
            return decode(answer.read(LONGEST_BYTES))
    except (OSError, msgspec.MsgspecError):
        return None


def _base(config: Config) -> str:
    host = config.http.listen.host
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{config.http.listen.port}"
