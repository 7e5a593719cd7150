"""The one user of a local ClickHouse, and its password: made up once, kept beside the data, readable by us alone."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

SOLE_USER: Final = "dyncdc"
SECRET_PLACE: Final = Path("password")
"""Where the password of ``SOLE_USER`` stands, in the directory beside the data."""


def make_password(directory: Path) -> None:
    """Make up a password where there is none yet: whole or not at all, and for the eyes of this process's user only."""
    made = directory / f".{SECRET_PLACE.name}.{os.getpid()}"
    made.unlink(missing_ok=True)
    descriptor = os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with open(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(24))
    with suppress(FileExistsError):
        os.link(made, directory / SECRET_PLACE)
    made.unlink()


def read_password(directory: Path) -> str:
    """Return the password of a directory, "" where it has none."""
    try:
        return (directory / SECRET_PLACE).read_text().strip()
    except FileNotFoundError:
        return ""
