"""The directory of a local ClickHouse: the configuration that it is started with, and who holds it."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final
from xml.sax.saxutils import escape

from dyncdc.errors import ConfigError

_MERGE_LIMITS: Final = (
    "number_of_free_entries_in_pool_to_execute_mutation",
    "number_of_free_entries_in_pool_to_lower_max_size_of_merge",
    "number_of_free_entries_in_pool_to_execute_optimize_entire_partition",
)
_NOT_COMPILED: Final = ("compile_expressions", "compile_aggregate_expressions", "compile_sort_description")
"""To compile a query to machine code takes longer than to run it over what a local server holds."""


class DirectoryInUse(ConfigError):
    """Another server runs on the directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            f"starting ClickHouse on {directory}: another server runs there",
            hint="stop it, or give each daemon a directory of its own",
        )


@contextmanager
def sole_starter(directory: Path) -> Iterator[None]:
    """Refuse a second start before it writes a configuration that the first server would read.

    Raises DirectoryInUse.
    """
    with (directory / "start.lock").open("wb") as lock:
        if not _lock(lock) or _serving(directory):
            raise DirectoryInUse(directory)
        yield


def _serving(directory: Path) -> bool:
    """Whether a ClickHouse holds the directory: it keeps a lock on its status file, be it frozen or not."""
    try:
        with (directory / "data" / "status").open("rb") as status:
            return not _lock(status)
    except FileNotFoundError:
        return False


def _lock(file: IO[bytes]) -> bool:
    """Lock a file until it is closed; False when someone else has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def display_name(directory: Path) -> str:
    """What a server says that it is: the one on this directory."""
    return f"dyncdc-{hashlib.blake2b(str(directory.resolve()).encode(), digest_size=8).hexdigest()}"


def write_configuration(
    directory: Path, ports: tuple[int, int], memory: int, passwords: Mapping[str, str], *, sole: bool
) -> None:
    """Write what the server reads at its start. ``ports``: native, HTTP. ``memory``: bytes.

    ``passwords``: by user, beside ``default``. ``sole``: without a password no one is let in.
    """
    tcp_port, http_port = ports
    settings: dict[str, object] = {
        "listen_host": "127.0.0.1",
        "tcp_port": tcp_port,
        "http_port": http_port,
        "display_name": display_name(directory),
        "users_config": "users.xml",
        "max_server_memory_usage": memory,
        "mark_cache_size": memory // 16,
        "primary_index_cache_size": memory // 16,
        "index_mark_cache_size": memory // 64,
        "compiled_expression_cache_size": memory // 64,
        "background_pool_size": 2,
        "background_schedule_pool_size": 4,
        "background_common_pool_size": 2,
        "merge_tree": dict.fromkeys(_MERGE_LIMITS, 2),  # they must not exceed background_pool_size
    }
    limits = {"max_threads": 2, "max_memory_usage": memory * 3 // 4, **dict.fromkeys(_NOT_COMPILED, 0)}
    users: dict[str, object] = {
        # The engine itself is ``default``, without a password and for as long as it runs: then no one else is.
        "profiles": {"default": limits, "engine": limits | {"max_sessions_for_user": 1}},
        "quotas": {"default": {}},
        "users": {
            "default": _user("", "engine" if sole else "default"),
            **{name: _user(password) for name, password in passwords.items()},
        },
    }
    for file, content in (("config.xml", settings), ("users.xml", users)):
        path = directory / file
        path.touch(mode=0o600)
        path.write_text(f"<clickhouse>{_xml(content)}</clickhouse>\n")


def _user(password: str, profile: str = "default") -> dict[str, object]:
    digest = hashlib.sha256(password.encode()).hexdigest()
    secret = {"password_sha256_hex": digest} if password else {"password": ""}
    return {**secret, "networks": {"ip": "127.0.0.1"}, "profile": profile, "quota": "default"}


def _xml(content: Mapping[str, object]) -> str:
    return "".join(
        f"<{name}>{_xml(value) if isinstance(value, Mapping) else escape(str(value))}</{name}>"
        for name, value in content.items()
    )


def empty_definitions(data: Path) -> list[str]:
    """Files without which ClickHouse does not start. A database's folder in ``metadata`` may be a link."""
    found = {file.resolve() for pattern in ("metadata/*.sql", "metadata/*/*.sql") for file in data.glob(pattern)}
    return sorted(str(file.relative_to(data.resolve())) for file in found if file.stat().st_size == 0)
