"""Reading the configuration: file, environment, secrets; every mistake becomes one line with file, key and remedy."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from dyncdc.errors import ConfigError

from .config import Config
from .environment import overlay_environment
from .validation_errors import first_mistake

MASK_KEY_BYTES = 16
"""A shorter key could be tried out, and with it every hashed address or number."""

DEFAULT_FILE = "config.toml"


def load_config(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read and check the configuration.

    ``path`` wins over ``DYNCDC_CONFIG``, which wins over ``./config.toml``. Single keys are overridden by
    ``DYNCDC_SECTION__KEY``. ``password_env`` and ``password_file`` are resolved here, into ``clickhouse.url.password``,
    and ``mask_key_env`` into ``mask_key`` of its table.

    Raises:
        ConfigError: for whatever is wrong, one line.
    """
    environ = os.environ if environ is None else environ
    file = Path(path or environ.get("DYNCDC_CONFIG") or DEFAULT_FILE)
    return parse_config(_read(file), environ, name=str(file))


def parse_config(text: str, environ: Mapping[str, str], *, name: str = DEFAULT_FILE) -> Config:
    """Check a configuration given as TOML text; ``name`` is what errors call it. Raises ConfigError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"reading {name}: not TOML: {error}") from None
    variables = overlay_environment(document, environ)
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        mistake = first_mistake(Config, error)
        where = variables.get(mistake.key, name)
        raise ConfigError(f"reading {where}: {mistake.text}", hint=mistake.hint) from None
    return _with_mask_keys(_with_password(config, environ, name), environ, name)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"reading {file}: no such file", hint="name the configuration with --config FILE or DYNCDC_CONFIG"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"reading {file}: not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"reading {file}: {error.strerror}") from None


def _with_password(config: Config, environ: Mapping[str, str], name: str) -> Config:
    clickhouse = config.clickhouse
    if clickhouse.password_env is not None:
        password = environ.get(clickhouse.password_env)
        if password is None:
            variable = clickhouse.password_env
            raise ConfigError(f"reading {name}: clickhouse.password_env: environment variable {variable} is not set")
    elif clickhouse.password_file is not None:
        password = read_password_file(clickhouse.password_file, name)
    else:
        return config
    url = replace(clickhouse.url, password=password)
    return config.model_copy(update={"clickhouse": clickhouse.model_copy(update={"url": url})})


def _with_mask_keys(config: Config, environ: Mapping[str, str], name: str) -> Config:
    if not any(table.mask_key_env for table in config.tables):
        return config
    tables = tuple(
        table.with_mask_key(_mask_key(index, table.mask_key_env, environ, name)) if table.mask_key_env else table
        for index, table in enumerate(config.tables)
    )
    return config.model_copy(update={"tables": tables})


def _mask_key(index: int, variable: str, environ: Mapping[str, str], name: str) -> bytes:
    key = environ.get(variable, "").encode("utf-8", "surrogateescape")
    if len(key) < MASK_KEY_BYTES:
        found = "is too short" if key else "is not set"
        raise ConfigError(
            f"reading {name}: tables[{index}].mask_key_env: environment variable {variable} {found}",
            hint=f"{MASK_KEY_BYTES} bytes or more, the same forever: `openssl rand -hex 32` makes one",
        )
    return key


def read_password_file(file: str, name: str) -> str:
    """Return the password in a file; ``name`` is what errors call the configuration. Raises ConfigError."""
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError(f"reading {name}: clickhouse.password_file: {file} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"reading {name}: clickhouse.password_file: {file}: {error.strerror}") from None
