"""Addresses in the configuration: the ClickHouse URL and host:port of the HTTP server. Parsing and redaction only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

NATIVE_PORT = 9000
NATIVE_TLS_PORT = 9440


@dataclass(frozen=True, slots=True)
class ClickHouseUrl:
    """Where ClickHouse is. ``kind`` "local" means a child process on ``directory``; the other fields are then defaults.

    ``others``: replicas to turn to while ``host`` cannot be reached, as (host, port).

    ``str()`` and ``repr()`` never show the password.
    """

    kind: Literal["native", "local"]
    host: str = "127.0.0.1"
    port: int = NATIVE_PORT
    user: str = "default"
    password: str = field(default="", repr=False)
    database: str = "default"
    secure: bool = False
    directory: str = ""
    others: tuple[tuple[str, int], ...] = ()

    @property
    def hosts(self) -> tuple[tuple[str, int], ...]:
        """All of them, as (host, port)."""
        return ((self.host, self.port), *self.others)

    def __str__(self) -> str:
        if self.kind == "local":
            return f"local://{self.directory}"
        scheme = "clickhouses" if self.secure else "clickhouse"
        secret = ":***" if self.password else ""
        return f"{scheme}://{self.user}{secret}@{','.join(map(host_text, self.hosts))}/{self.database}"


def host_text(host: tuple[str, int]) -> str:
    """A host and its port as a URL writes them."""
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def parse_clickhouse_url(text: object) -> ClickHouseUrl:
    """Parse ``clickhouse://``, ``clickhouses://`` (TLS) or ``local:///directory``.

    Raises:
        ValueError: says what is wrong, never repeating the text, which may hold a password.
    """
    if isinstance(text, ClickHouseUrl):
        return text
    if not isinstance(text, str):
        raise ValueError("must be a URL, clickhouse://user@host:9000/database")
    try:
        parts = urlsplit(text)
        user, at, names = parts.netloc.rpartition("@")
        places = [urlsplit(f"//{name}") for name in names.split(",")]
        ports = [place.port for place in places]
        parts = parts._replace(netloc=f"{user}{at}{places[0].netloc}")
    except ValueError:
        # urlsplit's own message may quote parts of the URL, the password among them
        raise ValueError("is not a URL that can be read; percent-encode special characters in the password") from None
    if parts.query or parts.fragment:
        raise ValueError("takes nothing after '?' or '#'; percent-encode these characters in the password")
    if parts.scheme == "local":
        return _local(parts)
    if parts.scheme not in ("clickhouse", "clickhouses"):
        raise ValueError(
            "must start with clickhouse:// or clickhouses:// (the native protocol, port 9000 or 9440) or local:///"
        )
    hosts = [place.hostname for place in places]
    if not all(hosts):
        raise ValueError("names no host")
    secure = parts.scheme == "clickhouses"
    usual = NATIVE_TLS_PORT if secure else NATIVE_PORT
    found = [(str(host), port or usual) for host, port in zip(hosts, ports, strict=True)]
    if len(set(found)) < len(found):
        raise ValueError("names a host twice")
    return ClickHouseUrl(
        kind="native",
        host=found[0][0],
        port=found[0][1],
        user=unquote(parts.username or "default"),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.strip("/")) or "default",
        secure=secure,
        others=tuple(found[1:]),
    )


def _local(parts: SplitResult) -> ClickHouseUrl:
    if parts.netloc or parts.path in ("", "/"):
        raise ValueError("needs an absolute directory after local://, with three slashes: local:///var/lib/dyncdc")
    return ClickHouseUrl(kind="local", directory=unquote(parts.path))


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """Host and port to bind; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_http_address(text: object) -> HttpAddress:
    """Parse ``host:port``, ``[::1]:port`` included. Raises ValueError."""
    if isinstance(text, HttpAddress):
        return text
    if isinstance(text, str):
        host, colon, port = text.rpartition(":")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host if ":" not in host else ""
        if colon and host and port.isascii() and port.isdigit() and int(port) <= 65535:
            return HttpAddress(host, int(port))
    raise ValueError('must be "host:port", as "127.0.0.1:9108" or "[::1]:9108"')


ClickHouseUrlField = Annotated[
    ClickHouseUrl, BeforeValidator(parse_clickhouse_url), PlainSerializer(str), WithJsonSchema({"type": "string"})
]
HttpAddressField = Annotated[
    HttpAddress, BeforeValidator(parse_http_address), PlainSerializer(str), WithJsonSchema({"type": "string"})
]
