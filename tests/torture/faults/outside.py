"""Outside: the state around the daemon goes back, changes hands or is edited. Each returns when its spell is over."""

from __future__ import annotations

import random
from collections.abc import Callable
from http.client import HTTPException

from dyncdc.config import load_config
from dyncdc.operations.snapshot import request_snapshot

from ..plan import Spell
from ..processes.clickhouse import ODD_PROFILES
from ..world import World

ATTEMPTS = 20
SHORT_RETENTION_SECONDS = 6.0

KEPT = {"dyncdc_gaps", "dyncdc_dead_letters"}
"""Own tables that stay: they are the only record of what was lost, and the judge reads them."""


def run_somehow(world: World, statement: Callable[[], None]) -> bool:
    """Run a statement; ClickHouse may be down just now, and at first there is no table."""
    for _ in range(ATTEMPTS):
        try:
            statement()
            return True
        except (AssertionError, IndexError, OSError, HTTPException):
            world.sleep(0.5)
    return False


def ask_for_snapshot(world: World, table: str) -> None:
    """As ``dyncdc snapshot`` does."""
    request = request_snapshot(load_config(str(world.direct_config)), table)
    world.requested[table] = world.loop.call(request)


def _ask_again(world: World) -> None:
    """Ask for all snapshots again whose requests are gone, and so what they were to fix."""
    for table in sorted(world.names.values()):
        run_somehow(world, lambda name=table: ask_for_snapshot(world, name))  # type: ignore[misc]


# --- ClickHouse goes back ---


def restore(world: World, spell: Spell) -> int:
    """Take a copy of the data, let some seconds pass, and start again from the copy."""
    copy = world.server.directory / "copy"
    with world.by_hand:
        world.server.copy_data(copy)
    world.sleep(0.5 + spell.seconds * 2)
    with world.by_hand:
        world.server.kill()
        world.server.set_back(copy)
        try:
            world.sleep(spell.strength)
        finally:
            world.loop.call(world.server.start())
        if world.requested:
            _ask_again(world)
    return 1


def lose_parts(world: World, spell: Spell) -> int:
    """Kill the server, and take the newest parts of the destinations away before it starts again."""
    labels = ", ".join(f"'{label}'" for label in world.names)
    where = f"database = '{world.place.name}'"
    rows = world.place.clickhouse.rows(f"SELECT toString(uuid) FROM system.tables WHERE {where} AND name IN ({labels})")
    fresh = f"SELECT count() FROM system.parts WHERE {where} AND table IN ({labels}) AND modification_time >= now() - 1"
    for _ in range(ATTEMPTS):  # the daemon may be at its start: then there is nothing to lose
        if world.place.clickhouse.number(fresh):
            break
        world.sleep(0.5)
    world.server.kill()
    try:
        removed = world.server.drop_newest_parts([str(uuid) for (uuid,) in rows], 0.5 + 2.5 * spell.strength)
        world.sleep(spell.seconds)
    finally:
        world.loop.call(world.server.start())
    return int(removed > 0)


# --- ClickHouse refuses, or answers otherwise ---


def refuse_login(world: World, spell: Spell) -> int:
    """The password that the daemon finds is wrong for a while."""
    right = world.password_file.read_text()
    world.password_file.write_text("not-yet-rotated")
    try:
        for front in world.fronts:
            world.loop.soon(front.reset_connections)
        world.sleep(spell.seconds)
    finally:
        world.password_file.write_text(right)
    return 1


def change_profile(world: World, spell: Spell) -> int:
    """Start the server again with other settings for the daemon's user. They stay."""
    world.server.profile = ODD_PROFILES[int(spell.strength * 1000) % len(ODD_PROFILES)]
    world.server.kill()
    world.loop.call(world.server.start())
    return 1


# --- a person with a SQL client ---


def exchange(world: World, spell: Spell) -> int:
    """Put an empty table in the place of a destination for a while."""
    label = sorted(world.names)[int(spell.strength * 100) % len(world.names)]
    clickhouse, other = world.place.clickhouse, f"{label}_b"

    def uuid() -> str:
        sql = f"SELECT toString(uuid) FROM system.tables WHERE database = currentDatabase() AND name = '{label}'"
        return str(clickhouse.value(sql))

    before: list[str] = []

    def swap() -> None:
        before[:] = [uuid()]
        clickhouse.run(f"CREATE TABLE IF NOT EXISTS {other}{world.on_cluster} AS {label}")
        clickhouse.run(f"EXCHANGE TABLES {label} AND {other}{world.on_cluster}")

    def swap_back() -> None:
        if uuid() != before[0]:
            clickhouse.run(f"EXCHANGE TABLES {label} AND {other}{world.on_cluster}")

    if not run_somehow(world, swap):
        return 0
    world.sleep(0.5 + spell.seconds * 2)
    run_somehow(world, swap_back)
    run_somehow(world, lambda: clickhouse.run(f"DROP TABLE IF EXISTS {other}{world.on_cluster} SYNC"))
    return 1


def lose_own_table(world: World, spell: Spell) -> int:
    """Drop or truncate one of dyncdc's own tables."""
    clickhouse = world.place.clickhouse
    chosen: list[str] = []
    rng = random.Random(f"own table {world.plan.seed} {spell.strength}")

    def lose() -> None:
        there = sorted(name for name in clickhouse.tables() - KEPT if name.startswith("dyncdc_"))
        assert there, "dyncdc has made no table yet"
        chosen[:] = [rng.choice(there)]
        drop = f"DROP TABLE {chosen[0]}{world.on_cluster} SYNC"
        clickhouse.run(drop if rng.random() < 0.5 else f"TRUNCATE TABLE {chosen[0]}")

    with world.by_hand:
        if not run_somehow(world, lose):
            return 0
        if chosen[0] in ("dyncdc_requests", "dyncdc_snapshots"):
            _ask_again(world)
    return 1


def edit_comment(world: World, spell: Spell) -> int:
    """Put a text of one's own in the place of a column's comment, or none, as data catalogues do."""
    clickhouse = world.place.clickhouse
    rng = random.Random(f"comment {world.plan.seed} {spell.strength}")

    def edit() -> None:
        rows = clickhouse.rows(
            "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment LIKE '%dyncdc%'"
            f" AND table IN ({', '.join(repr(label) for label in sorted(world.names))}) ORDER BY 1, 2"
        )
        assert rows, "no column has a comment yet"
        table, name = rng.choice(rows)
        quoted = str(name).replace("\\", "\\\\").replace("`", "\\`")
        text = rng.choice(["", "owned by finance", "see the catalogue"])
        clickhouse.run(f"ALTER TABLE {table} COMMENT COLUMN `{quoted}` '{text}'")

    return int(run_somehow(world, edit))


# --- the stream ---


def fall_behind(world: World, spell: Spell) -> int:
    """Freeze the daemon for longer than the stream keeps its records."""
    world.freeze(world.daemon.pid, SHORT_RETENTION_SECONDS + 0.5 + 2.0 * spell.strength)
    return 1
