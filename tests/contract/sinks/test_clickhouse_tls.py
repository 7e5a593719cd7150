"""``clickhouses://`` through a TLS proxy: certificates are checked, and a bad one is the user's to mend."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dyncdc.config import ClickHouseUrl
from dyncdc.errors import ConfigError
from dyncdc.sinks.connection import ClickHouse


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, key and all in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "cert.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
async def tls_url(clickhouse: ClickHouse, certificate: Path) -> AsyncIterator[ClickHouseUrl]:
    """The database's address through TLS."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # the client drops connections; that is its right
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", clickhouse.url.port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield replace(clickhouse.url, secure=True, port=server.sockets[0].getsockname()[1])


async def test_a_trusted_certificate_works_in_both_directions(tls_url: ClickHouseUrl, certificate: Path) -> None:
    client = ClickHouse(tls_url, ca_file=str(certificate), timeout_seconds=5.0)
    await client.execute("CREATE TABLE t (a String) ENGINE = Memory")
    await client.execute("INSERT INTO t FORMAT JSONCompactColumns [[" + ",".join(['"x"'] * 300_000) + "]]")
    assert len(await client.fetch("SELECT a FROM t")) == 300_000
    await client.close()


async def test_an_unknown_certificate_is_a_config_error_with_what_to_do(tls_url: ClickHouseUrl) -> None:
    client = ClickHouse(tls_url, timeout_seconds=5.0)
    with pytest.raises(ConfigError, match="not trusted") as caught:
        await client.fetch("SELECT 1")
    assert "ca_file" in caught.value.hint


async def test_a_certificate_for_another_host_is_a_config_error(tls_url: ClickHouseUrl, certificate: Path) -> None:
    client = ClickHouse(replace(tls_url, host="localhost"), ca_file=str(certificate), timeout_seconds=5.0)
    with pytest.raises(ConfigError, match="not trusted"):
        await client.fetch("SELECT 1")


async def test_a_ca_file_that_cannot_be_used_is_a_config_error(tls_url: ClickHouseUrl, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(ConfigError, match=name):
            ClickHouse(tls_url, ca_file=str(tmp_path / name))
