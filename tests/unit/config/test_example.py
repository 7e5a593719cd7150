"""``config.example.toml`` documents every key of this version with its default: compared in both directions."""

from __future__ import annotations

import itertools
import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dyncdc.config import Config, load_config
from dyncdc.config.validation_errors import model_in

EXAMPLE = Path(__file__).parents[3] / "config.example.toml"
HEADER = re.compile(r"(?:# )?\[+([a-z_.]+)\]+")
KEY = re.compile(r"(# )?([a-z_]+ = .+)")


def keys_in_code(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        path = prefix + (field.alias or name)
        inner = model_in(field.annotation)
        if inner is None or path == "tables.columns":
            yield path, field
        if inner is not None:
            yield from keys_in_code(inner, path + ".")


def keys_in_example() -> Iterator[tuple[str, bool, object]]:
    """(key path, whether commented out, value) of each key line."""
    section = ""
    for line in EXAMPLE.read_text().splitlines():
        if header := HEADER.fullmatch(line):
            section = header[1] + "."
        elif key := KEY.fullmatch(line):
            ((name, value),) = tomllib.loads(key[2]).items()
            yield section + name, key[1] is not None, value


def test_the_example_loads_as_it_stands() -> None:
    assert load_config(EXAMPLE, {}).tables[0].snapshot.bucket == "my-exports"


def test_the_example_has_each_key_of_the_code_once_and_no_other() -> None:
    example = [key for key, _, _ in keys_in_example()]
    assert len(example) == len(set(example))
    assert set(example) == {key for key, _ in keys_in_code(Config)}


def test_each_default_in_the_example_is_the_default_of_the_code() -> None:
    fields = dict(keys_in_code(Config))
    for key, commented, value in keys_in_example():
        default = fields[key].default
        if commented and not fields[key].is_required() and default is not None:
            shown = str(default) if key == "http.listen" else list(default) if isinstance(default, tuple) else default
            assert (key, value, type(value)) == (key, shown, type(shown))


def test_a_key_without_default_says_so_in_the_example() -> None:
    lines = EXAMPLE.read_text().splitlines()
    fields = dict(keys_in_code(Config))
    section = ""
    for above, line in itertools.pairwise(lines):
        if header := HEADER.fullmatch(line):
            section = header[1] + "."
        elif (key := KEY.fullmatch(line)) and key[1]:
            name = section + key[2].partition(" ")[0]
            if fields[name].is_required():
                assert above.startswith("# Needed"), name
            elif fields[name].default is None:
                assert above.startswith("# No default"), name


def test_every_key_of_the_code_is_described() -> None:
    missing = [key for key, field in keys_in_code(Config) if not field.description and key != "pipeline"]
    assert not missing
    assert typing.get_type_hints(Config)["pipeline"] is str
