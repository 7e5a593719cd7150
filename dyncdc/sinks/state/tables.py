"""The tables that dyncdc keeps for itself beside the data: their statements and nothing else."""

from __future__ import annotations

import re
from typing import Final

from dyncdc.decode.dead_letters.rows import DEAD_LETTER_TABLE
from dyncdc.schema.sql.ddl import deduplication, engine
from dyncdc.schema.sql.quoting import on_cluster
from dyncdc.sinks.client.durability import FSYNC

CHECKPOINTS: Final = "dyncdc_checkpoints"
SNAPSHOTS: Final = "dyncdc_snapshots"
DEAD_LETTERS: Final = DEAD_LETTER_TABLE
GAPS: Final = "dyncdc_gaps"
REQUESTS: Final = "dyncdc_requests"
TABLE_SOURCES: Final = "dyncdc_table_sources"
MEMBERS: Final = "dyncdc_members"
SESSIONS: Final = "dyncdc_sessions"
CHECKPOINT_HISTORY: Final = "dyncdc_checkpoint_history"
HISTORY_DAYS: Final = 7
ROLLBACKS: Final = "dyncdc_rollbacks"
TOMBSTONES: Final = "dyncdc_tombstones"
WATERMARKS: Final = "dyncdc_watermarks"
MAPPINGS: Final = "dyncdc_mappings"
SETTINGS: Final = "dyncdc_settings"
DESTINATIONS: Final = "dyncdc_destinations"
HISTORIES: Final = "dyncdc_histories"

SELDOM: Final = frozenset(
    (
        SNAPSHOTS,
        GAPS,
        REQUESTS,
        TABLE_SOURCES,
        SESSIONS,
        ROLLBACKS,
        TOMBSTONES,
        MAPPINGS,
        SETTINGS,
        DESTINATIONS,
        HISTORIES,
    )
)
"""What is written seldom, and not written again by what is read again: on disk before it is acknowledged, always."""

ACCEPTED: Final = "accepted"
"""Reason of a gap that the user took (``accept_gap``): nothing is done about it."""

_HEAD: Final = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)")
_ENGINE: Final = re.compile(r"ENGINE = (\w+)(?:\((\w*)\))?")

_STATEMENTS: Final = (
    # finished is part of the key: the row that says so survives every later row, whatever its rank. 2: a shard that was
    # finished is read again from position on; then only rows of greater rank count.
    f"""CREATE TABLE IF NOT EXISTS {CHECKPOINTS} (
  pipeline String, source String, shard String, position String, finished UInt8, read_until DateTime64(6, 'UTC'),
  epoch UInt64, ordinal UInt64, rank UInt128, member UInt32, saved_at DateTime64(6, 'UTC') DEFAULT now64(6)
) ENGINE = ReplacingMergeTree(rank) ORDER BY (pipeline, source, shard, finished)""",
    f"""CREATE TABLE IF NOT EXISTS {SNAPSHOTS} (
  id String, pipeline String, table String, state LowCardinality(String), export_arn String,
  export_time DateTime64(6, 'UTC'), version Int64, segments UInt32, destination_uuid String,
  covered_from DateTime64(6, 'UTC'), had_rows UInt8, request String, revision UInt128,
  updated_at DateTime64(6, 'UTC') DEFAULT now64(6)
) ENGINE = ReplacingMergeTree(revision) ORDER BY (pipeline, id, revision)""",
    # Append-only: a dead letter is open while no row of its id has a replayed_at. That is part of the key, so that a
    # record read again after a crash cannot open its dead letter again. raw is base64 of the bytes as they were read.
    f"""CREATE TABLE IF NOT EXISTS {DEAD_LETTERS} (
  id String, pipeline String, table String, reason LowCardinality(String), column String, error String, source String,
  shard String, position String, raw String, received_at DateTime64(6, 'UTC') DEFAULT now64(6),
  replayed_at Nullable(DateTime64(6, 'UTC'))
) ENGINE = ReplacingMergeTree ORDER BY (pipeline, id, isNotNull(replayed_at))""",
    # Append-only: a gap is open while no row of it that ends as late has a recovered_at, which is part of the key.
    # position, with source and shard, says after what changes are missing.
    f"""CREATE TABLE IF NOT EXISTS {GAPS} (
  pipeline String, table String, source String, shard String, from DateTime64(6, 'UTC'), to DateTime64(6, 'UTC'),
  position String, reason String, noticed_at DateTime64(6, 'UTC') DEFAULT now64(6),
  recovered_at Nullable(DateTime64(6, 'UTC'))
) ENGINE = ReplacingMergeTree ORDER BY (pipeline, table, source, shard, from, isNotNull(recovered_at))""",
    # A request is open while no row of its id has a done_at.
    f"""CREATE TABLE IF NOT EXISTS {REQUESTS} (
  id String, pipeline String, table String, kind LowCardinality(String),
  requested_at DateTime64(6, 'UTC') DEFAULT now64(6), done_at Nullable(DateTime64(6, 'UTC'))
) ENGINE = ReplacingMergeTree ORDER BY (pipeline, id, isNotNull(done_at))""",
    # Which stream each table is read from, written by every session before it reads: a table that comes back from
    # another stream, or was left out for a while, has changes that no one read.
    f"""CREATE TABLE IF NOT EXISTS {TABLE_SOURCES} (
  pipeline String, table String, source String, epoch UInt64, checkpointed UInt8, empty String,
  recorded_at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(epoch) ORDER BY (pipeline, table)""",
    # Who works on a pipeline. A process that was taken for dead and comes back cannot hide the one in its place: the
    # epoch is part of the key.
    f"""CREATE TABLE IF NOT EXISTS {MEMBERS} (
  pipeline String, member UInt32, members UInt32, epoch UInt64, heartbeat UInt64, tables Array(String), left UInt8,
  errors String, seen_at DateTime64(6, 'UTC') DEFAULT now64(6)
) ENGINE = ReplacingMergeTree(seen_at) ORDER BY (pipeline, members, member, epoch)
TTL toDateTime(seen_at) + INTERVAL 30 DAY""",
    # The session and process that each epoch belongs to: written before the session does anything, so that no epoch
    # is taken twice, whatever the clocks do. Two that took the same one differ in their id.
    f"""CREATE TABLE IF NOT EXISTS {SESSIONS} (
  pipeline String, member UInt32, members UInt32, epoch UInt64, id String, host String, process String,
  began_at DateTime64(6, 'UTC') DEFAULT now64(6)
) ENGINE = ReplacingMergeTree ORDER BY (pipeline, members, member, epoch, id)
TTL toDateTime(began_at) + INTERVAL 400 DAY""",
    # Where each shard was about once a minute: after a loss of power what was acknowledged last is read again.
    f"""CREATE TABLE IF NOT EXISTS {CHECKPOINT_HISTORY} (
  pipeline String, source String, shard String, position String, read_until DateTime64(6, 'UTC'), epoch UInt64,
  ordinal UInt64, begins UInt8, server String DEFAULT toString(serverUUID()),
  saved_at DateTime64(6, 'UTC') DEFAULT now64(6)
) ENGINE = ReplacingMergeTree ORDER BY (pipeline, source, shard, epoch, ordinal)
TTL toDateTime(saved_at) + INTERVAL {HISTORY_DAYS} DAY""",
    # When a member saw that ClickHouse had lost what it had acknowledged: no restart of a server tells who starts next.
    f"""CREATE TABLE IF NOT EXISTS {ROLLBACKS} (
  pipeline String, member UInt32, noticed_at DateTime64(6, 'UTC') DEFAULT now64(6)
) ENGINE = ReplacingMergeTree ORDER BY (pipeline, member, noticed_at)
TTL toDateTime(noticed_at) + INTERVAL {HISTORY_DAYS} DAY""",
    # Below which version (microseconds) a destination has no tombstones any more, so that nothing older may be written.
    f"""CREATE TABLE IF NOT EXISTS {TOMBSTONES} (
  destination_uuid String, pipeline String, table String, cleaned_before Int64, keys UInt64,
  cleaned_at DateTime64(6, 'UTC') DEFAULT now64(6)
) ENGINE = ReplacingMergeTree(cleaned_before) ORDER BY destination_uuid""",
    # Up to when each table is complete, as each member says of its own shards; NULL: no instant can be named yet.
    f"""CREATE TABLE IF NOT EXISTS {WATERMARKS} (
  pipeline String, table String, member UInt32, members UInt32, complete_until Nullable(DateTime64(6, 'UTC')),
  updated_at DateTime64(6, 'UTC') DEFAULT now64(6)
) ENGINE = ReplacingMergeTree(updated_at) ORDER BY (pipeline, table, members, member)""",
    # Append-only: what fills each column of a destination, so that it does not hang on comments. The greatest number of
    # a column counts. role: attribute, or which of dyncdc's own columns it is. by: how its attribute was found.
    # default: the expression over the spill that dyncdc gave it.
    f"""CREATE TABLE IF NOT EXISTS {MAPPINGS} (
  destination_uuid String, column String, number UInt64, pipeline String, table String, role LowCardinality(String),
  attribute String, takes Array(String), type String, lossy UInt8, encoding LowCardinality(String),
  by LowCardinality(String), default String, recorded_at DateTime64(6, 'UTC') DEFAULT now64(6)
) ENGINE = ReplacingMergeTree ORDER BY (destination_uuid, column, number)""",
    # Append-only: the settings that decided the rows of a destination, from recorded_at to the next row of the member.
    f"""CREATE TABLE IF NOT EXISTS {SETTINGS} (
  pipeline String, table String, member UInt32, number UInt64, destination_uuid String, settings String,
  recorded_at DateTime64(6, 'UTC') DEFAULT now64(6)
) ENGINE = ReplacingMergeTree ORDER BY (pipeline, table, member, number)""",
    # Into which ClickHouse table each table's changes went from when on: under a name there can be one after the other.
    # blocks: the greatest block number of each of its partitions, which tells whether its rows were taken away.
    f"""CREATE TABLE IF NOT EXISTS {DESTINATIONS} (
  number UInt64, pipeline String, table String, destination String, uuid String, arn String, table_id String,
  since DateTime64(6, 'UTC'), blocks Map(String, Int64), rows UInt64, live UInt8, revision UInt64,
  saved_at DateTime64(6, 'UTC') DEFAULT now64(6)
) ENGINE = ReplacingMergeTree(revision) ORDER BY (number, pipeline, table, uuid)""",
    # From when on each history has every change, and why not from before: nothing brings these back. One row, of the
    # greatest revision, for each number. blocks: as in dyncdc_destinations.
    f"""CREATE TABLE IF NOT EXISTS {HISTORIES} (
  pipeline String, table String, history String, uuid String, number UInt64, since DateTime64(6, 'UTC'), reason String,
  blocks Map(String, Int64), rows UInt64, revision UInt64, saved_at DateTime64(6, 'UTC') DEFAULT now64(6)
) ENGINE = ReplacingMergeTree(revision) ORDER BY (pipeline, table, history, number)""",
)


def own_tables() -> list[str]:
    """Names of these tables."""
    return [name for statement in _STATEMENTS for name in _HEAD.findall(statement)]


def own_statements(cluster: str | None = None) -> list[str]:
    """Statements that make these tables where they are missing. Harmless when repeated."""
    return [_completed(statement, cluster) for statement in _STATEMENTS]


def _completed(statement: str, cluster: str | None) -> str:
    """The statement with where it runs, the engine, how tokens are remembered, and when an insert is on disk."""
    placed = _HEAD.sub(lambda found: found[0] + on_cluster(cluster), statement)
    kept = _ENGINE.sub(lambda found: f"ENGINE = {engine(found[1], found[2] or '', cluster)}", placed)
    fsync = f", {FSYNC}" if _HEAD.findall(statement)[0] in SELDOM else ""
    return f"{kept} {deduplication(cluster)}{fsync}"
