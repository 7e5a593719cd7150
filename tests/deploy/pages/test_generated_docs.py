"""The pages of docs/ that list things are what the code says."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from dyncdc.cli.main import cli
from dyncdc.sinks.state.tables import own_tables

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tools"))
PAGES: dict[str, Callable[[], str]] = importlib.import_module("generate_docs").PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_what_make_docs_would_write(name: str) -> None:
    assert (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


def test_every_page_that_says_it_is_generated_is() -> None:
    said = {path.stem for path in (ROOT / "docs").rglob("*.md") if path.read_text().startswith("<!-- generated")}
    assert said == set(PAGES)


def test_every_table_of_dyncdc_is_described_for_operators() -> None:
    """Catches: a new own table without an entry in tools/own_tables_page.py, or an entry of a table that is gone."""
    assert set(importlib.import_module("own_tables_page").DESCRIPTIONS) == set(own_tables())


def test_the_page_of_commands_has_every_option_of_every_command() -> None:
    sections = {part.partition("\n")[0]: part for part in PAGES["commands"]().split("\n## ")}

    def look(group: click.Group, path: str) -> None:
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                look(command, f"{path} {name}")
                continue
            shown = sections[f"{path} {name}"] + sections["Options of every command"]
            for option in command.params:
                if isinstance(option, click.Option) and not option.hidden:
                    assert option.opts[-1] in shown, f"{path} {name} {option.opts[-1]}"

    look(cli, "dyncdc")
