"""TLS to ClickHouse: whose certificates are trusted, and which one is shown. The server's is always checked."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import NoReturn

from dyncdc.errors import ConfigError


class _EncryptedKeyError(OSError):
    """A key wants a passphrase. OpenSSL would ask the terminal for it."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Names of PEM files: ``ca_file`` replaces the system's trust; ``key_file`` may be left out, its key in the other.

    They are read at every connect, so that renewed ones are in force from the next connection on.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def context(self) -> ssl.SSLContext:
        """Read the files. Raises OSError (an ``ssl.SSLError``, too) when they cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name
        self._trust(context)
        self._show(context)
        return context

    def check(self) -> None:
        """Refuse files that would fail at every connect, forever. Raises ConfigError."""
        if self.ca_file is not None:
            try:
                self._trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
            except OSError as error:
                raise ConfigError(
                    f"reading clickhouse.ca_file {self.ca_file}: {_said(error) or 'it holds no certificates'}",
                    hint="name a PEM file with the certificates of the CA",
                ) from None
        if self.cert_file is None:
            return
        for key, file in (("cert_file", self.cert_file), ("key_file", self.key_file)):
            try:
                open(file or self.cert_file, "rb").close()
            except OSError as error:
                raise ConfigError(
                    f"reading clickhouse.{key} {file}: {error.strerror}", hint="name a PEM file that dyncdc may read"
                ) from None
        self._check_pair()

    def _check_pair(self) -> None:
        key = f" and key_file {self.key_file}" if self.key_file else ""
        try:
            self._show(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        except _EncryptedKeyError:
            why, hint = "the key is encrypted", "`openssl pkey -in KEY -out PLAIN` writes one without a passphrase"
        except OSError as error:
            mismatch = "MISMATCH" in (getattr(error, "reason", None) or "")
            why = "the key is not that of the certificate" if mismatch else "they hold no certificate and key"
            hint = "name PEM files: the certificate, and its key if that is not in the same file"
        else:
            return
        raise ConfigError(f"reading clickhouse.cert_file {self.cert_file}{key}: {why}", hint=hint)

    def _trust(self, context: ssl.SSLContext) -> None:
        if self.ca_file is not None:
            context.load_verify_locations(self.ca_file)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)

    def _show(self, context: ssl.SSLContext) -> None:
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file, password=_refuse)


NO_CERTIFICATES = Certificates()
"""Trust the system's, show none."""


def _refuse() -> NoReturn:
    raise _EncryptedKeyError


def _said(error: OSError) -> str:
    return "" if isinstance(error, ssl.SSLError) else error.strerror or ""
