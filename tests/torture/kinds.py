"""Names of everything that goes wrong, as the fault matrix shows them."""

from __future__ import annotations

DAEMON_KILLED = "daemon: SIGKILL, started again"
DAEMON_TERMINATED = "daemon: SIGTERM, started again"
DAEMON_FROZEN = "daemon: SIGSTOP"
ZOMBIE = "daemon: SIGSTOP, replaced, woken"
STANDBY = "daemon: a second one of its pipeline"
INTRUDER = "daemon: one of another pipeline and table for a destination"
DAEMON_CLOCK = "daemon: clock steps, and back"
SETTINGS = "settings: changed, and taken back"
PARTIAL_EXPORT = "settings: an export that leaves items out"
CLICKHOUSE_FROZEN = "ClickHouse: SIGSTOP"
CLICKHOUSE_KILLED = "ClickHouse: SIGKILL, started again"
CLICKHOUSE_RESET = "ClickHouse: connections reset"
CLICKHOUSE_LATE = "ClickHouse: answers late"
CLICKHOUSE_SILENT = "ClickHouse: network blackhole"
CLICKHOUSE_CUT = "ClickHouse: answers cut"
CLICKHOUSE_RESTORED = "ClickHouse: set back to a copy of some seconds ago"
PARTS_GONE = "ClickHouse: newest parts of the tables gone"
LOGIN_REFUSED = "ClickHouse: login refused"
PROFILE = "ClickHouse: another settings profile"
CLICKHOUSE_CLOCK = "ClickHouse: clock steps, and back"
NET_RESET = "AWS: connections reset"
NET_LATE = "AWS: network slow"
NET_SILENT = "AWS: network blackhole"
STREAMING_OFF = "DynamoDB: streaming destination off, and on"
TABLE_ANEW = "DynamoDB: table deleted, recreated"
PROCESS_KINDS = (
    DAEMON_KILLED,
    DAEMON_TERMINATED,
    DAEMON_FROZEN,
    ZOMBIE,
    STANDBY,
    INTRUDER,
    DAEMON_CLOCK,
    SETTINGS,
    PARTIAL_EXPORT,
    CLICKHOUSE_FROZEN,
    CLICKHOUSE_KILLED,
    CLICKHOUSE_RESET,
    CLICKHOUSE_LATE,
    CLICKHOUSE_SILENT,
    CLICKHOUSE_CUT,
    CLICKHOUSE_RESTORED,
    PARTS_GONE,
    LOGIN_REFUSED,
    PROFILE,
    CLICKHOUSE_CLOCK,
    NET_RESET,
    NET_LATE,
    NET_SILENT,
    STREAMING_OFF,
    TABLE_ANEW,
)

EXCHANGED = "destination: exchanged for another table, and back"
OWN_TABLE = "own table: dropped or truncated"
COMMENT = "schema: comment of a column edited"
SQL_KINDS = (EXCHANGED, OWN_TABLE, COMMENT)
"""What a person with a SQL client does."""

THROTTLED = "AWS: throttled"
SERVER_ERROR = "AWS: 5xx"
DROPPED = "AWS: call dropped"
TRUNCATED = "AWS: answer truncated"
STALE = "AWS: answer late and stale"
EMPTY = "AWS: GetRecords empty before data"
EXPIRED = "AWS: iterator expired"
APPLIED = "AWS: applied, then failed"
DENIED = "AWS: permissions and credentials refused"
AWS_KINDS = (THROTTLED, SERVER_ERROR, DROPPED, TRUNCATED, STALE, EMPTY, EXPIRED, APPLIED, DENIED)

COARSE = "AWS: coarse times and MillisBehindLatest"
RETENTION = "stream: positions fall off the retention"
GAP_KINDS = (
    CLICKHOUSE_RESTORED,
    PARTS_GONE,
    EXCHANGED,
    OWN_TABLE,
    RETENTION,
    SETTINGS,
    STREAMING_OFF,
    TABLE_ANEW,
)
"""After these a gap is right, if it is recovered."""

SPLIT = "stream: shard split"
MERGE = "stream: shards merged"
UNIT = "stream: time unit changed"
SNAPSHOT_AGAIN = "snapshot: again, over rows lost and orphan rows"
COLUMN_BY_HAND = "schema: column added by someone else"
STREAM_KINDS = (SPLIT, MERGE, UNIT, SNAPSHOT_AGAIN, COLUMN_BY_HAND)

SLOW_EXPORT = "AWS: export slow"
EXPORT_APPLIED = "AWS: export started, then failed"
DUPLICATE = "records: delivered twice"
TIE = "records: same key, same time"
RECREATED = "records: deleted, created again"
EXPIRED_ITEM = "records: deleted by TTL"
BAD = "records: no change event"
EVOLVED = "schema: column added for a new attribute"
SNAPSHOT_EXPORT = "snapshot: export"
SNAPSHOT_SCAN = "snapshot: scan"

LEAST = 20
"""Injections of a kind without which a long run proves nothing about it."""
LONG_RUN = 200
"""Histories from which on LEAST is demanded."""

REQUIRED = (
    *PROCESS_KINDS,
    *AWS_KINDS,
    *STREAM_KINDS,
    *SQL_KINDS,
    COARSE,
    RETENTION,
    SLOW_EXPORT,
    EXPORT_APPLIED,
    DUPLICATE,
    TIE,
    RECREATED,
    EXPIRED_ITEM,
    BAD,
    EVOLVED,
    SNAPSHOT_EXPORT,
    SNAPSHOT_SCAN,
)
"""In the order of the matrix."""
