"""Every setting that the server has, set otherwise for the daemon's user: no row differs, or a refusal names it.

Takes a quarter of an hour or more, so only `make profiles` runs it; ``DYNCDC_SETTINGS_FROM`` names where to go on. The
names come from the server: a new one is tried with it.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.processes.harness import ClickHouseHttp
from support.servers.aws import Aws
from support.servers.place import Place
from support.stage.stage import Stage

from dyncdc.emulator.clickhouse import LocalClickHouse

from .first_day import differences, first_day, literal

GROUP = 60
"""Settings that are set at once; of a group that ends otherwise each half is tried, down to the one that did it."""

NOT_TRIED = {
    "readonly": "refuses SET itself; `test_profiles` tries it in a profile",
    "allow_ddl": "as readonly",
    "allow_introspection_functions": "nothing that we call",
    "implicit_transaction": "a transaction would begin with SET; `test_profiles` tries it in a profile",
    "implicit_table_at_top_level": "as implicit_transaction: what follows SET fails, with a profile nothing does",
    "allow_experimental_analyzer": "SET refuses it beside its other name, enable_analyzer",
    "enable_analyzer": "26.9 refuses every statement that sets it to 0, and names it",
    "database": "SET changes the database of the session, a profile does not",
    "network_compression_method": "what the driver reads is said with each statement, after SET",
    "max_memory_usage": "an odd value ends every statement, and says so",
    "max_memory_usage_for_user": "as max_memory_usage",
    "max_untracked_memory": "as max_memory_usage",
    "sleep_after_receiving_query_ms": "for tests of the server itself, as the next ones",
    "sleep_in_send_data_ms": "",
    "sleep_in_send_tables_status_ms": "",
    "unknown_packet_in_send_data": "",
}


@pytest.mark.skipif(not os.environ.get("DYNCDC_EVERY_SETTING"), reason="takes long: make profiles")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("turn", (0, 1))
@pytest.mark.usefixtures("stage")
def test_no_setting_of_the_server_changes_a_row(
    aws: Aws, clickhouse: LocalClickHouse, tmp_path: Path, turn: int
) -> None:
    """``turn``: which of the odd values of a setting, where it has two."""
    values = _odd_values(ClickHouseHttp(clickhouse.http_port), turn)
    odd = {name: value for name, value in values if name >= os.environ.get("DYNCDC_SETTINGS_FROM", "")}
    with _new_stage(aws, clickhouse, tmp_path) as stage:
        why, right = first_day(stage, {})
        assert not why, why

    def ended(names: Sequence[str]) -> str:
        with _new_stage(aws, clickhouse, tmp_path) as stage:
            why, found = first_day(stage, {name: odd[name] for name in names})
            return why or differences(right, found)

    wrong: dict[str, str] = {}
    for first in range(0, len(odd), GROUP):
        names = sorted(odd)[first : first + GROUP]
        found = _search(names, ended)
        print(f"{names[0]} to {names[-1]}: {found or 'equal'}", flush=True)
        wrong |= found
    silent = {name: why for name, why in wrong.items() if name not in why}
    print(f"\n{len(odd)} settings, {len(wrong) - len(silent)} refused by name: {', '.join(sorted(wrong)) or 'none'}")
    assert not silent, "\n".join(f"{name} = {odd.get(name)!r}: {why[:500]}" for name, why in silent.items())


def test_a_setting_that_changes_rows_is_found_alone_and_two_that_do_it_together_are_not_lost() -> None:
    names = list("abcdefg")
    assert _search(names, lambda some: "cut" if "e" in some else "") == {"e": "cut"}
    assert _search(names, lambda some: "cut" if {"b", "f"} <= set(some) else "") == {"a to g, not one alone": "cut"}
    assert _search(names, lambda some: "") == {}


def _search(names: Sequence[str], ended: Callable[[Sequence[str]], str]) -> dict[str, str]:
    """Return the settings with which a day does not end as it should, and how it ends."""
    if not names:
        return {}
    why = ended(names)
    if not why:
        return {}
    if len(names) == 1:
        return {names[0]: why}
    named = [name for name in names if re.search(rf"\b{name}\b", why)]
    if named and len(named) < len(names):
        parts = [*([name] for name in named), [name for name in names if name not in named]]
    else:
        half = len(names) // 2
        parts = [list(names[:half]), list(names[half:])]
    found = {name: how for part in parts for name, how in _search(part, ended).items()}
    return found or {f"{names[0]} to {names[-1]}, not one alone": why}


def _odd_values(http: ClickHouseHttp, turn: int) -> Iterator[tuple[str, object]]:
    """Yield each setting with a value that is not its own, where the server takes one."""
    for name, kind, value in http.rows("SELECT name, type, value FROM system.settings ORDER BY name"):
        found = [] if name in NOT_TRIED else _candidates(http, str(name), str(kind), str(value))
        taken = [one for one in found if _takes(http, str(name), one)]
        if len(taken) > turn:
            yield str(name), taken[turn]


def _candidates(http: ClickHouseHttp, name: str, kind: str, value: str) -> list[object]:
    if kind == "Bool":
        return [1 - int(value)]
    if re.match(r"U?Int|NonZero|MaxThreads|Seconds|Milli", kind):
        return [one for one in (1, 0, 2, 1000) if str(one) != value][:2]
    if re.match(r"Float|Double", kind):
        return [0.1, 1.0] if "probability" in name else [0.5, 0.0]
    if kind in ("String", "Char", "Map", "Timezone"):
        return [{"String": "x", "Char": "|", "Map": "{'a': 'b'}", "Timezone": "Asia/Tokyo"}[kind]]
    try:
        http.run(f"SELECT 1 SETTINGS {name} = 'none of them'")
    except AssertionError as error:  # which lists the values of an enumeration
        listed = re.search(r"ust be one of \[(.*?)\]", str(error))
        return [one for one in re.findall(r"'(.*?)'", listed[1]) if one.lower() != value.lower()] if listed else []
    return []


def _takes(http: ClickHouseHttp, name: str, value: object) -> bool:
    """Whether the server knows the value; that a statement then fails for it is what is tried."""
    refusal = r"is not|nknown|annot parse|must|BAD_ARG|Invalid|nexpected|CANNOT_PARSE"
    try:
        http.run(f"SELECT 1 SETTINGS {name} = {literal(value)}")
    except AssertionError as error:
        return not re.search(refusal, str(error))
    return True


@contextmanager
def _new_stage(aws: Aws, clickhouse: LocalClickHouse, directory: Path) -> Iterator[Stage]:
    place = Place(f"t{uuid.uuid4().hex[:8]}", directory, aws, clickhouse)
    ClickHouseHttp(clickhouse.http_port).run(f"CREATE DATABASE {place.name}")
    try:
        yield Stage(place)
    finally:
        with suppress(TimeoutError):  # what an odd setting has let hang holds its tables for a while
            place.leave()
