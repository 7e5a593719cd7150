"""``clickhouses://`` through a TLS proxy: certificates of both sides are checked, and who has a bad one is told."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from support.servers.tls import demanding, make_certificate, tls_proxy

from dyncdc.config import ClickHouseUrl
from dyncdc.errors import ConfigError
from dyncdc.sinks.client.asynch_connection import Hosts
from dyncdc.sinks.client.client import ClickHouse
from dyncdc.sinks.client.error_codes import LoginRefused
from dyncdc.sinks.client.tls import Certificates


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "cert.pem")


@pytest.fixture
async def tls_url(clickhouse: ClickHouse, certificate: Path) -> AsyncIterator[ClickHouseUrl]:
    """The database's address through TLS."""
    async with serving(clickhouse, certificate) as url:
        yield url


@asynccontextmanager
async def serving(
    clickhouse: ClickHouse, certificate: Path, clients: Path | None = None
) -> AsyncIterator[ClickHouseUrl]:
    """A TLS proxy in front of the database; ``clients``: see ``demanding``."""

    async with tls_proxy(clickhouse.url.port, demanding(certificate, clients)) as port:
        yield replace(clickhouse.url, secure=True, port=port)


async def test_a_trusted_certificate_works_in_both_directions(tls_url: ClickHouseUrl, certificate: Path) -> None:
    client = ClickHouse(tls_url, certificates=Certificates(str(certificate)), timeout_seconds=5.0)
    await client.execute("CREATE TABLE t (a String) ENGINE = Memory")
    await client.execute("INSERT INTO t FORMAT JSONCompactColumns [[" + ",".join(['"x"'] * 300_000) + "]]")
    assert len(await client.fetch("SELECT a FROM t")) == 300_000
    await client.close()


async def test_an_unknown_certificate_is_refused_with_what_to_do(tls_url: ClickHouseUrl) -> None:
    client = ClickHouse(tls_url, timeout_seconds=5.0)
    with pytest.raises(LoginRefused, match="not trusted") as caught:
        await client.fetch("SELECT 1")
    assert "ca_file" in caught.value.hint


async def test_a_certificate_for_another_host_is_refused(tls_url: ClickHouseUrl, certificate: Path) -> None:
    client = ClickHouse(
        replace(tls_url, host="localhost"), certificates=Certificates(str(certificate)), timeout_seconds=5.0
    )
    with pytest.raises(LoginRefused, match="not trusted"):
        await client.fetch("SELECT 1")


async def test_a_ca_file_that_cannot_be_used_is_a_config_error(tls_url: ClickHouseUrl, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(ConfigError, match=name):
            ClickHouse(tls_url, certificates=Certificates(str(tmp_path / name)))


async def test_a_client_certificate_is_shown_and_a_renewed_one_is_used_without_a_restart(
    clickhouse: ClickHouse, certificate: Path, tmp_path: Path
) -> None:
    trusted = make_certificate(tmp_path / "client.pem")
    shown = tmp_path / "shown.pem"
    shown.write_bytes(trusted.read_bytes())
    async with serving(clickhouse, certificate, trusted) as url:
        client = ClickHouse(
            url, certificates=Certificates(str(certificate), str(shown), str(shown)), timeout_seconds=5.0
        )
        assert await client.fetch("SELECT 1") == [(1,)]
        await client.close()
    trusted = make_certificate(tmp_path / "renewed.pem")
    shown.write_bytes(trusted.read_bytes())
    async with serving(clickhouse, certificate, trusted) as url:
        client._connection = partial(client._connection, hosts=Hosts(url.hosts))
        assert await client.fetch("SELECT 1") == [(1,)]
        await client.close()


def refuse(listener: socket.socket, certificate: Path, clients: Path) -> None:
    """Refuse one client, in words: OpenSSL itself, as in ClickHouse. asyncio's servers hang up without an alert."""
    context = demanding(certificate, clients)
    accepted, _ = listener.accept()
    with context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False) as tls:
        with pytest.raises(ssl.SSLError):
            tls.do_handshake()
        while socket.socket.recv(tls, 65536):
            pass


@pytest.mark.parametrize("shows", ["none", "another"])
async def test_a_client_certificate_that_is_missing_or_wrong_is_refused_with_what_to_do(
    clickhouse: ClickHouse, certificate: Path, tmp_path: Path, shows: str
) -> None:
    trusted, other = make_certificate(tmp_path / "client.pem"), make_certificate(tmp_path / "other.pem")
    certificates = Certificates(str(certificate), str(other) if shows == "another" else None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = replace(clickhouse.url, secure=True, port=listener.getsockname()[1])
        client = ClickHouse(url, certificates=certificates, timeout_seconds=5.0)
        refusing = asyncio.get_running_loop().run_in_executor(None, refuse, listener, certificate, trusted)
        with pytest.raises(LoginRefused, match="the server refuses our certificate") as caught:
            await client.fetch("SELECT 1")
        await client.close()
        await refusing
    assert "cert_file" in caught.value.hint and "\n" not in str(caught.value)


def test_a_client_certificate_that_cannot_be_used_is_a_config_error(tls_url: ClickHouseUrl, tmp_path: Path) -> None:
    one, other = str(make_certificate(tmp_path / "one.pem")), str(make_certificate(tmp_path / "other.pem"))
    locked = str(make_certificate(tmp_path / "locked.pem", serialization.BestAvailableEncryption(b"secret")))
    empty = tmp_path / "empty.pem"
    empty.touch()
    for certificates, words in (
        (Certificates(None, str(tmp_path / "missing.pem")), r"cert_file \S+missing.pem: No such file"),
        (Certificates(None, one, str(tmp_path / "missing.pem")), r"key_file \S+missing.pem: No such file"),
        (Certificates(None, str(empty)), "hold no certificate and key"),
        (Certificates(None, one, other), "the key is not that of the certificate"),
        (Certificates(None, locked), "the key is encrypted"),
    ):
        with pytest.raises(ConfigError, match=words):
            ClickHouse(tls_url, certificates=certificates)
