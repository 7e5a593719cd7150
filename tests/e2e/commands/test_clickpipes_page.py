"""docs/clickpipes.md: what it says the recipe loses, and its steps, run as they stand on a real ClickHouse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from support.processes.harness import Ended, command, environment
from support.servers.aws import REGION
from support.servers.place import Place

PAGE = Path(__file__).parents[3] / "docs" / "clickpipes.md"
URL = "clickhouse://dyncdc@ch.internal:9000/analytics"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language; "" for those of commands."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def run(place: Place, *words: str) -> Ended:
    """Run a command of the page here: the local AWS, a free port, and ``run`` to the tip only."""
    more = {
        "init": ("--endpoint-url", place.aws.endpoint_url, "--region", REGION),
        "run": ("--once",),
    }.get(words[0], ())
    return command(*words, *more, environment=environment() | {"DYNCDC_HTTP__LISTEN": "127.0.0.1:0"})


def run_sql(place: Place, script: str) -> None:
    for statement in filter(None, map(str.strip, script.split(";\n"))):
        place.clickhouse.run(statement.rstrip(";"))


def test_the_recipe_loses_what_the_page_says_and_the_steps_take_it_over(place: Place) -> None:
    recipe, query, columns, drops = blocks("sql")
    run_sql(place, recipe)
    (shown,) = blocks("text")
    assert [[str(cell) for cell in row] for row in place.clickhouse.rows(query)] == [
        line.split("\t") for line in shown.splitlines()
    ]
    table = place.make_table("users", {"id": "S"}, place.make_stream())
    place.aws.put(table, {"id": {"S": "a"}, "age": {"N": "300"}, "first_name": {"S": "Ann"}, "more": {"S": "x"}})
    place.aws.put(table, {"id": {"S": "b"}, "first_name": {"S": "Bob"}})
    run_sql(place, columns)
    here = {"users": table, "config.toml": str(place.directory / "config.toml"), URL: place.url}
    ran: list[tuple[str, Ended]] = []
    for line in "".join(blocks("")).splitlines():
        words = [here.get(word, word) for word in shlex.split(line)[1:]]
        ran.append((words[0], run(place, *words)))
    assert [(name, ended.code) for name, ended in ran] == [
        ("init", 0),
        ("verify", 4),
        ("check", 0),
        ("run", 0),
        ("verify", 0),
    ], [ended.out + ended.err for _, ended in ran]
    init = ran[0][1].out.replace("`", "")
    assert all(statement in init for statement in map(str.strip, drops.split(";")[:2]))
    run_sql(place, drops)
    current = "SELECT id, age, first_name FROM destination_current ORDER BY id"
    assert place.clickhouse.rows(current) == [["a", 0, "Ann"], ["b", 0, "Bob"]], "300 is whole in the spill"
    assert "300" in str(place.clickhouse.rows("SELECT _spill FROM destination FINAL WHERE id = 'a'"))


def test_a_table_without_its_sort_key_gets_a_new_one_beside_it(place: Place) -> None:
    recipe, *_ = blocks("sql")
    run_sql(place, recipe)
    table = place.make_table("people", {"id": "S", "year": "N"}, place.make_stream())
    ended = run(place, "init", table, "--clickhouse", place.url, "--into", "destination")
    assert ended.code == 0, ended.err
    assert 'clickhouse = "destination_dyncdc"' in ended.out
