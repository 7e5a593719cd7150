"""Names of what goes wrong with replicas, and of what is left out where there are some."""

from __future__ import annotations

from .. import kinds

REPLICA_KILLED = "replica: SIGKILL, started again"
REPLICA_FROZEN = "replica: SIGSTOP"
REPLICA_LAGS = "replica: fetches nothing"
SENDS_STOPPED = "replica: sends nothing to the others"
REPLICA_REBUILT = "replica: disk lost, dropped, and created again"
REPLICA_CLOCK = "replica: clock steps, and back"
KEEPER_KILLED = "keeper: SIGKILL, started again"
KEEPER_FROZEN = "keeper: SIGSTOP"
FAILOVER = "daemon: its replica taken away, at another fault"
SPELLS = (
    REPLICA_KILLED,
    REPLICA_FROZEN,
    REPLICA_LAGS,
    SENDS_STOPPED,
    REPLICA_REBUILT,
    REPLICA_CLOCK,
    KEEPER_KILLED,
    KEEPER_FROZEN,
)
"""What is dealt out over the seeds; FAILOVER goes with each."""
FAULTS = (*SPELLS, FAILOVER)

LEFT_OUT = (
    kinds.CLICKHOUSE_FROZEN,
    kinds.CLICKHOUSE_KILLED,
    kinds.CLICKHOUSE_CLOCK,
    kinds.CLICKHOUSE_RESTORED,
    kinds.PARTS_GONE,
)
"""The first three have a kind of the replicas in their place; a replica's older disk is its keeper's matter."""
ORDINARY = tuple(kind for kind in kinds.PROCESS_KINDS if kind not in LEFT_OUT)
REQUIRED = (*FAULTS, *(kind for kind in kinds.REQUIRED if kind not in LEFT_OUT))
"""In the order of the matrix."""

LONG_RUN = 100
"""Histories from which on each of FAULTS is demanded as often as on one server."""
