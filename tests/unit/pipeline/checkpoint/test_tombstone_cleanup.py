"""The limit below which tombstones may go: older than all that could still write an old row, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from support.pipeline.pipeline_parts import ScriptedSource

from dyncdc.model.checkpoints import Checkpoint, Mark
from dyncdc.model.gaps import Gap, TableSource
from dyncdc.model.shards import Position, ShardId, SourceId
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.checkpoint.proof import WentBackError
from dyncdc.pipeline.checkpoint.tombstone_cleanup import (
    DurableState,
    TableToClean,
    TombstoneCleaner,
    TombstoneStores,
    clean_before,
)
from dyncdc.pipeline.recovery.no_recovery import NoRecovery
from dyncdc.pipeline.snapshot.plan import SnapshotsStanding
from dyncdc.telemetry.task_health import TaskHealth

DAY = 86_400.0
NOW = 1_700_000_000.0
SECOND = 1_000_000


class Stream(ScriptedSource):
    """A stream that keeps a day."""

    def __init__(self) -> None:
        super().__init__()
        self.retention_seconds = DAY
        self.server_time = NOW


STREAM = Stream()
ORDERS = TableToClean("orders", STREAM, "uuid")


def row(read_until: float, *, finished: bool = False, shard: str = "s", source: SourceId = STREAM.id) -> Checkpoint:
    return Checkpoint(source, ShardId(shard), Mark(Position("1"), read_until, finished))


def snapshot(state: Any, version: float = 0.0, **options: Any) -> Snapshot:
    return replace(Snapshot("id", "orders", state, "uuid", version=int(version * SECOND)), **options)


QUIET = DurableState(rows=[row(NOW)], snapshots=[], checkpointed=True, dead_letters=0, gaps=0, at=NOW)


def limit(**changes: Any) -> float | None:
    """The limit in seconds before now."""
    found = clean_before(ORDERS, replace(QUIET, **changes), now=NOW, margin_seconds=3600.0, replay_seconds=300.0)
    return None if found is None else NOW - found / SECOND


def test_o6_the_limit_is_an_hour_behind_the_oldest_of_all_that_may_come_again() -> None:
    assert limit() == DAY + 3600
    assert limit(rows=[row(NOW), row(NOW - 3 * DAY, shard="slow")]) == 3 * DAY + 3600
    assert limit(rows=[row(NOW), row(NOW - 3 * DAY, finished=True, shard="parent")]) == DAY + 3600
    assert limit(rows=[row(NOW), row(NOW - 3 * DAY, source=SourceId("another stream"))]) == DAY + 3600
    assert limit(snapshots=[snapshot("loading", NOW - 5 * DAY)]) == 5 * DAY + 3600


@pytest.mark.parametrize(
    "changes",
    [
        {"dead_letters": 1},
        {"gaps": 1},
        {"checkpointed": False},
        {"rows": []},
        {"rows": [row(NOW, finished=True)]},
        {"snapshots": [snapshot("waiting")]},
        {"snapshots": [snapshot("exporting")]},
    ],
    ids=str,
)
def test_o6_there_is_no_limit_while_anything_is_unknown(changes: dict[str, Any]) -> None:
    assert limit(**changes) is None


def test_o6_snapshots_count_until_another_one_is_complete() -> None:
    old = snapshot("failed", NOW - 9 * DAY)
    assert limit(snapshots=[old]) == 9 * DAY + 3600, "its last rows may be on their way"
    assert limit(snapshots=[old, snapshot("complete", NOW - 8 * DAY)]) == DAY + 3600
    assert limit(snapshots=[snapshot("complete", NOW), old, snapshot("sweeping", NOW - 2 * DAY)]) == 9 * DAY + 3600
    assert limit(snapshots=[replace(old, destination_uuid="dropped"), replace(old, table="users")]) == DAY + 3600


def test_o6_a_snapshot_counts_for_as_long_as_a_restart_of_clickhouse_makes_its_files_come_again() -> None:
    """Catches: an old snapshot that is complete, a clean-up, a restart, and rows that their tombstones held down."""
    old = snapshot("complete", NOW - 5 * DAY)
    assert limit(snapshots=[replace(old, saved_at=NOW - 10.0)]) == 5 * DAY + 3600
    assert limit(snapshots=[replace(old, saved_at=NOW - 3600.0 - 299.0)]) == 5 * DAY + 3600
    assert limit(snapshots=[replace(old, saved_at=NOW - 3600.0 - 301.0)]) == DAY + 3600


@dataclass
class Kept(NoRecovery):
    """All stores at once. What ``appears`` is there from the first promise on."""

    dead_letters: int = 0
    appears: int = 0
    failures: int = 0
    done: list[tuple[str, int]] = field(default_factory=list)

    async def load(self) -> Sequence[Any]:
        return [row(NOW)] if self is not None else []

    async def table_sources(self) -> Sequence[TableSource]:
        return [TableSource("orders", STREAM.id, 1, NOW, held=True)]

    async def open_gaps(self) -> Sequence[Gap]:
        return [Gap("orders", STREAM.id, "s", 1.0, 2.0, accepted=True), Gap("users", STREAM.id, "s", 1.0, 2.0)]


class Rows(Kept):
    """``Tombstones`` in memory."""

    async def open_dead_letters(self, table: Any) -> int:  # type: ignore[override]
        return self.dead_letters

    async def cleaned_before(self, table: str) -> int:
        return 0

    async def promise(self, table: str, before: int) -> None:
        self.done.append(("promised", before))
        self.dead_letters += self.appears

    async def count(self, table: str, before: int) -> int:
        return 1

    async def clean(self, table: str, before: int) -> int:
        self.done.append(("cleaned", before))
        return 1


class NoSnapshots(Kept):
    async def load(self) -> Sequence[Any]:
        return []


def cleaner(rows: Rows) -> TombstoneCleaner:
    kept: Any = Kept()
    none: Any = NoSnapshots()
    return TombstoneCleaner([ORDERS], TombstoneStores(kept, none, kept, rows), TaskHealth())


def test_o6_the_limit_is_durable_before_anything_is_deleted() -> None:
    rows = Rows()
    assert asyncio.run(cleaner(rows).clean(ORDERS))
    assert [what for what, _ in rows.done] == ["promised", "cleaned"]
    assert {before for _, before in rows.done} == {int((NOW - DAY - 3600) * SECOND)}


def test_o6_what_turns_up_while_the_limit_is_written_keeps_its_tombstones() -> None:
    """Catches: a look, then a promise, and an old snapshot or dead letter in between."""
    rows = Rows(appears=1)
    asyncio.run(cleaner(rows).clean(ORDERS))
    assert [what for what, _ in rows.done] == ["promised"]


def test_an_open_letter_keeps_everything() -> None:
    rows = Rows(dead_letters=1)
    assert not asyncio.run(cleaner(rows).clean(ORDERS))
    assert rows.done == []


def test_before_this_session_has_judged_the_snapshots_nothing_is_cleaned_and_one_looks_again_soon() -> None:
    """Catches: ClickHouse is away for hours right after a snapshot, whose files are then read again."""
    rows, standing = Rows(), SnapshotsStanding()
    waiting = replace(ORDERS, standing=standing)
    assert not asyncio.run(cleaner(rows).clean(waiting)) and rows.done == []

    async def there() -> None:
        return None

    standing.judged(there)
    assert asyncio.run(cleaner(rows).clean(waiting)) and rows.done[-1][0] == "cleaned"


@pytest.mark.parametrize("looks", [0, 1])
def test_where_clickhouse_went_back_since_they_were_judged_no_tombstone_is_deleted(looks: int) -> None:
    """Catches: the session has not noticed yet, and the cleaner wakes up first."""
    rows, standing = Rows(), SnapshotsStanding()
    left = [None] * looks

    async def there() -> None:
        if not left:
            raise WentBackError("using ClickHouse: it went back")
        left.pop()

    standing.judged(there)
    with pytest.raises(WentBackError):
        asyncio.run(cleaner(rows).clean(replace(ORDERS, standing=standing)))
    assert "cleaned" not in [what for what, _ in rows.done]


def test_a_cleaner_that_believes_what_a_former_session_saved_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of the rule: no one asks whether this session has judged the snapshots."""

    async def believed(self: SnapshotsStanding) -> bool:
        return True

    monkeypatch.setattr(SnapshotsStanding, "holds", believed)
    rows = Rows()
    assert asyncio.run(cleaner(rows).clean(replace(ORDERS, standing=SnapshotsStanding())))
    assert rows.done[-1][0] == "cleaned"
