"""Service: a ClickHouse over TLS with a login, and queries to it over HTTPS, beside what the daemon does."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from support.processes.harness import ClickHouseHttp

HOST, HTTPS, USER, PASSWORD = (f"CLICKHOUSE_CLOUD_{name}" for name in ("HOST", "HTTPS_PORT", "USER", "PASSWORD"))
CA_FILE = "CLICKHOUSE_CLOUD_CA_FILE"
NEEDED = {
    HOST: "the service's host, with its native port unless that is 9440",
    USER: "a user that may create and drop a database",
    PASSWORD: "its password",
}
NATIVE_PORT, HTTPS_PORT = 9440, 8443
ANSWER_SECONDS = 60.0
"""A service that was idle wakes up first."""


@dataclass(frozen=True)
class CloudHttp(ClickHouseHttp):
    """Over HTTPS, to any host."""

    host: str = ""
    user: str = ""
    ca_file: str = ""

    def _ask(self, sql: str, settings: str = "") -> bytes:
        # what was just inserted is to be seen by whichever server answers
        settings += "&wait_end_of_query=1&select_sequential_consistency=1"
        request = urllib.request.Request(
            f"https://{self.host}:{self.port}/?database={self.database}{settings}",
            data=sql.encode(),
            headers={"X-ClickHouse-User": self.user, "X-ClickHouse-Key": self.password},
        )
        context = ssl.create_default_context(cafile=self.ca_file or None)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS, context=context) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"the service refused {sql[:200]!r}: {error.read()[:500]!r}") from None


@dataclass(frozen=True)
class Service:
    """As a trial compares it. ``ca_file``: "" for the system's certificates."""

    host: str
    port: int
    https_port: int
    user: str
    password: str = field(repr=False)
    ca_file: str = ""

    @property
    def name(self) -> str:
        """For messages."""
        return self.host

    @property
    def address(self) -> str:
        """``clickhouse.url`` up to the database, without the password."""
        return f"clickhouses://{quote(self.user, safe='')}@{self.host}:{self.port}"

    def queries(self, database: str) -> ClickHouseHttp:
        """Queries to it, beside what the daemon does."""
        return CloudHttp(self.https_port, database, self.password, self.host, self.user, self.ca_file)


def missing(environ: Mapping[str, str]) -> list[str]:
    """What the environment lacks, each with what it is."""
    return [f"{name}: {what}" for name, what in NEEDED.items() if not environ.get(name)]


def service(environ: Mapping[str, str]) -> Service:
    """The service that the environment names. Nothing may be ``missing``."""
    host, _, port = environ[HOST].partition(":")
    return Service(
        host,
        int(port or NATIVE_PORT),
        int(environ.get(HTTPS) or HTTPS_PORT),
        environ[USER],
        environ[PASSWORD],
        environ.get(CA_FILE, ""),
    )
