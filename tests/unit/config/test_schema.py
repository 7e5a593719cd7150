"""The JSON schema for editors knows the keys of this version, and is what stands in deploy/."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from dyncdc.config import Config
from dyncdc.config.schema import config_schema, config_schema_text

ROOT = Path(__file__).parents[3]


def test_the_schema_in_deploy_is_that_of_the_code() -> None:
    assert (ROOT / "deploy" / "config.schema.json").read_text() == config_schema_text(), "run `make docs`"


def test_the_schema_has_the_keys_that_this_version_has_and_no_others() -> None:
    schema = config_schema()
    assert schema["additionalProperties"] is False
    assert schema["properties"].keys() == Config.model_fields.keys()
    clickhouse = schema["$defs"]["ClickHouseConfig"]["properties"]
    assert "ca_file" in clickhouse


def test_the_example_has_only_keys_of_the_schema() -> None:
    schema = config_schema()
    example: dict[str, Any] = tomllib.loads((ROOT / "config.example.toml").read_text())
    for section, value in example.items():
        holder = schema["properties"][section]
        if isinstance(value, dict):
            name = holder["$ref"].rpartition("/")[2]
            assert value.keys() <= schema["$defs"][name]["properties"].keys(), section
