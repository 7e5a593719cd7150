"""The JSON schema of the configuration, for editors: made from the models, so that it says what they say."""

from __future__ import annotations

from typing import Any

import orjson

from .config import Config

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> dict[str, Any]:
    """Return the schema. What holds between keys is not in it."""
    schema = Config.model_json_schema(by_alias=True)
    pipeline = schema["properties"]["pipeline"]
    pipeline["pattern"] = pipeline["pattern"].replace(r"\z", "$")  # editors read JavaScript's patterns
    return {"$schema": _DIALECT, **schema, "title": "dyncdc"}


def config_schema_text() -> str:
    """Return the schema as text, as ``deploy/config.schema.json`` holds it."""
    return orjson.dumps(config_schema(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
