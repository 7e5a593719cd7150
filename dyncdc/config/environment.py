"""Overrides from the environment: ``DYNCDC_SECTION__KEY`` into the document that the file gave."""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dyncdc.errors import ConfigError

from .config import Config

PREFIX = "DYNCDC_"
SEPARATOR = "__"


def environment_variables() -> dict[str, str]:
    """Every variable that sets a key, and that key's path: ``{"DYNCDC_HTTP__LISTEN": "http.listen", ...}``."""
    variables = {PREFIX + "PIPELINE": "pipeline"}
    for section, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for key in field.annotation.model_fields:
                variables[f"{PREFIX}{section}{SEPARATOR}{key}".upper()] = f"{section}.{key}"
    return variables


def overlay_environment(document: dict[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Put the environment's values into ``document``; return key path -> variable for those it set.

    Raises:
        ConfigError: a variable of the shape DYNCDC_SECTION__KEY that sets nothing, or a value that is no TOML.
    """
    known = environment_variables()
    applied: dict[str, str] = {}
    for variable, text in environ.items():
        path = known.get(variable)
        if path is None:
            _refuse_unknown(variable, known)
            continue
        section, _, key = path.partition(".")
        if not key:
            document[section] = text
        else:
            holder = document.setdefault(section, {})
            if not isinstance(holder, dict):
                continue  # the file gave [section] a wrong type: validation says so
            holder[key] = _parse(variable, text, _takes_text(section, key))
        applied[path] = f"the environment variable {variable}"
    return applied


def _refuse_unknown(variable: str, known: Mapping[str, str]) -> None:
    if not variable.startswith(PREFIX) or SEPARATOR not in variable:
        return
    if variable.startswith(f"{PREFIX}TABLES{SEPARATOR}"):
        raise ConfigError(f"reading the environment: {variable}: tables can be set in the file only")
    close = difflib.get_close_matches(variable, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "variables are DYNCDC_SECTION__KEY, as DYNCDC_HTTP__LISTEN"
    raise ConfigError(f"reading the environment: unknown variable {variable}", hint=hint)


def _takes_text(section: str, key: str) -> bool:
    fields: Mapping[str, FieldInfo] = getattr(Config.model_fields[section].annotation, "model_fields", {})
    return not set(_leaves(fields[key].annotation)) <= {int, float, bool, types.NoneType}


def _leaves(annotation: object) -> list[object]:
    inner = typing.get_args(annotation)
    return [leaf for part in inner for leaf in _leaves(part)] if inner else [annotation]


def _parse(variable: str, text: str, takes_text: bool) -> object:
    """Numbers and booleans are written as in TOML; everything else is text as it stands, without quotes."""
    if takes_text:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise ConfigError(f"reading the environment variable {variable}: must be a number, true or false") from None
