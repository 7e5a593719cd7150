"""Lives under changing settings, and colleagues between them: no row may be wrong without a word.

A model of one destination: each item's row remembers the settings and the columns that it was written by. The real
decisions are asked at each start: which column takes what, and what former rows are under other settings.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from dyncdc.config.snapshots import SnapshotConfig
from dyncdc.config.tables import TableConfig
from dyncdc.pipeline.destinations import row_settings
from dyncdc.pipeline.destinations.row_settings import RecordedSettings, RowSettings
from dyncdc.schema.existing.table import ExistingColumn, ExistingTable
from dyncdc.schema.mapping import existing_table_spec
from dyncdc.schema.sql.column_comments import column_comment, joined_comment
from dyncdc.schema.stored_mapping import StoredColumn
from dyncdc.schema.table_spec import ColumnSpec, KeyAttribute
from dyncdc.sinks.state import mappings
from simulation.process_run import Violation

ITEMS = 6
LIVES = 6
CONFIG = TableConfig(dynamodb="orders", snapshot=SnapshotConfig(method="none"))
CITY = ColumnSpec("address_city", "Nullable(String)", ("address", "city"), ("S",))
PLAN = ColumnSpec("plan", "Nullable(String)", ("plan",), ("S",))


@dataclass(slots=True)
class _World:
    """Rows by item: the settings they were written under, and the column that holds the city. ``source``: items."""

    random: random.Random
    table: ExistingTable
    kept: dict[str, StoredColumn] = field(default_factory=dict)
    past: list[RecordedSettings] = field(default_factory=list)
    rows: dict[str, dict[int, RowSettings]] = field(default_factory=dict)
    source: set[int] = field(default_factory=lambda: set(range(ITEMS)))
    told: bool = False


def run(seed: int) -> None:
    """Live some lives; raise Violation when rows are wrong at the end and no one was told."""
    chance = random.Random(seed)
    world = _World(chance, _fresh_table())
    for session in range(LIVES):
        # The last two take back whatever was changed.
        settings = RowSettings("orders", spill="_spill", deleted="_deleted")
        if session < LIVES - 2:
            settings = _drawn(chance, settings)
        _start(world, settings, float(session))
        _write(world, settings)
        _colleague(world)
    _check(world, RowSettings("orders", spill="_spill", deleted="_deleted"))


def _fresh_table() -> ExistingTable:
    made = [ColumnSpec("id", "String", ("id",), ("S",), key=True), CITY, PLAN]
    columns = [ExistingColumn(column.name, column.type, column_comment(column)) for column in made]
    own = [ExistingColumn("_spill", "String"), ExistingColumn("_version", "Int64"), ExistingColumn("_deleted", "UInt8")]
    full = "ReplacingMergeTree(_version, _deleted) ORDER BY id"
    return ExistingTable("orders", "uuid", "ReplacingMergeTree", full, "id", "", (*columns, *own))


def _drawn(chance: random.Random, settings: RowSettings) -> RowSettings:
    return replace(
        settings,
        destination=chance.choice(["orders", "orders", "other"]),
        deletes=chance.choice(["tombstone", "ignore"]),
        exclude=chance.choice([(), ("plan",)]),
        mask=chance.choice([(), ("text",)]),
        mask_key=chance.choice(["one", "two"]),
    )


def _start(world: _World, settings: RowSettings, at: float) -> None:
    """Notice what is to be noticed, and load again what a snapshot makes right."""
    uuid = settings.destination
    found = row_settings.effects(world.past, uuid, settings)
    world.past.append(RecordedSettings(uuid, settings, at))
    rows = world.rows.setdefault(uuid, {})
    if not rows or any(effect.repaired_by == "snapshot" for effect in found):
        rows.clear()
        rows.update(dict.fromkeys(world.source, settings))
    table = mappings.with_kept(world.table, world.kept)
    spec = existing_table_spec(CONFIG, (KeyAttribute("id", "S"),), table)
    cities = [column.name for column in spec.columns if column.path == ("address", "city")]
    if len(cities) != 1 or cities[0] not in ("address_city", "city"):
        raise Violation(f"the city goes to {cities}")
    news = mappings.mapping_news(table, spec)
    world.kept.update({name: replace(row, number=row.number + 1) for name, row in news.rows.items()})
    restored = {column.name: joined_comment(column.comment, _made(column)) for column in news.comments}
    columns = tuple(replace(each, comment=restored.get(each.name, each.comment)) for each in world.table.columns)
    world.table = replace(world.table, columns=columns)


def _made(column: ExistingColumn) -> ColumnSpec:
    origin = column.origin
    assert origin is not None
    return ColumnSpec(column.name, column.type, origin.path, origin.takes)


def _write(world: _World, settings: RowSettings) -> None:
    rows = world.rows[settings.destination]
    for number in world.random.sample(range(ITEMS), 2):
        world.source.add(number)
        rows[number] = settings
    gone = world.random.randrange(ITEMS)
    world.source.discard(gone)
    if settings.deletes == "tombstone":
        rows.pop(gone, None)


def _colleague(world: _World) -> None:
    """Someone else's hands: a catalogue's comments, a column renamed."""
    columns = list(world.table.columns)
    index = next(index for index, column in enumerate(columns) if column.name in ("address_city", "city"))
    what = world.random.choice(["nothing", "comment", "clear", "rename"])
    if what in ("comment", "clear"):
        columns[index] = replace(columns[index], comment="a note" if what == "comment" else "")
    if what == "rename" and "dyncdc" in columns[index].comment:
        columns[index] = replace(columns[index], name={"city": "address_city"}.get(columns[index].name, "city"))
    world.table = replace(world.table, columns=tuple(columns))


def _check(world: _World, settings: RowSettings) -> None:
    rows = world.rows["orders"]
    if rows.keys() != world.source:
        raise Violation(f"the destination holds {sorted(rows)}, the source {sorted(world.source)}")
    for number, written in rows.items():
        hidden = written.exclude, written.mask
        if hidden != (settings.exclude, settings.mask):
            raise Violation(f"item {number} was written under {hidden}")
