"""What a session is given, its tasks, destination and settings, and the services that its parts share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dyncdc.pipeline.checkpoint.checkpointer import Checkpointer
from dyncdc.pipeline.checkpoint.watermarks import INTERVAL_SECONDS, STREAM_DELAY_SECONDS
from dyncdc.pipeline.destinations.bindings import DestinationStore, Target
from dyncdc.pipeline.destinations.schema_evolution import SchemaEvolution
from dyncdc.pipeline.members.assignment import Assignment
from dyncdc.pipeline.members.membership import Membership
from dyncdc.pipeline.members.succession import Succession
from dyncdc.pipeline.ports.checkpoints import CheckpointStore
from dyncdc.pipeline.ports.decoder import Decoder, SnapshotDecoders
from dyncdc.pipeline.ports.limit_stops import LimitStopStore
from dyncdc.pipeline.ports.members import MemberStore, SessionStore
from dyncdc.pipeline.ports.orphan_rows import OrphanRows
from dyncdc.pipeline.ports.recovery import RecoveryStore
from dyncdc.pipeline.ports.sink import Sink
from dyncdc.pipeline.ports.snapshots import Origin, SnapshotStore
from dyncdc.pipeline.ports.source import Source
from dyncdc.pipeline.ports.watermarks import WatermarkStore
from dyncdc.pipeline.recovery.no_recovery import NoRecovery
from dyncdc.pipeline.recovery.policy import Policy
from dyncdc.pipeline.recovery.recovery import Recovery
from dyncdc.pipeline.runtime import Instruments
from dyncdc.pipeline.snapshot.plan import SnapshotPlan
from dyncdc.pipeline.writing.dead_letter_limits import DeadLetterLimits
from dyncdc.pipeline.writing.open_batch import BatchLimits
from dyncdc.pipeline.writing.rejected_rows import DeadLetterSource


@dataclass(frozen=True, slots=True)
class StreamTask:
    """One stream to follow, with the decoder of all tables on it.

    ``tables``: DynamoDB's names of them. ``created``: when it made each, in seconds since the epoch. ``targets``: where
    the changes of each go. ``unusable``: those of ``tables`` that can not be used now: the decoder leaves
    them out, and no position moves past a change of theirs.
    """

    source: Source
    decoder: Decoder
    tables: Sequence[str] = ()
    created: Mapping[str, float] = field(default_factory=dict)
    targets: Mapping[str, Target] = field(default_factory=dict)
    unusable: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class SnapshotTask:
    """One table to load, and the stream that carries its changes."""

    plan: SnapshotPlan
    origin: Origin
    stream: Source


@dataclass(frozen=True, slots=True)
class Destination:
    """Where everything that must last goes. All of it stays open until ``run_session`` has returned."""

    sink: Sink
    checkpoints: CheckpointStore
    snapshots: SnapshotStore
    decoders: SnapshotDecoders
    dead_letters: DeadLetterSource
    limit_stops: LimitStopStore | None = None
    """None: the next session does not know at which dead-letter limit this one stopped."""
    recovery: RecoveryStore = field(default_factory=NoRecovery)
    orphan_rows: OrphanRows = field(default_factory=NoRecovery)
    schema_evolution: SchemaEvolution | None = None
    """None: no table gets columns."""
    members: MemberStore = field(default_factory=NoRecovery)
    sessions: SessionStore = field(default_factory=NoRecovery)
    watermarks: WatermarkStore | None = None
    """None: watermarks are not kept."""
    destinations: DestinationStore | None = None
    """None: the destinations are not monitored."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says about a session. ``drain_seconds``: from the wish to stop to the last save."""

    pipeline: str
    batch: BatchLimits
    budget_bytes: int
    fetch_ceiling_bytes: int = 2 * 2**20
    checkpoint_interval_seconds: float = 1.0
    replay_seconds: float = 300.0
    """What ClickHouse acknowledged so shortly before a restart is read again."""
    went_back: bool = False
    """The session before this one ended because ClickHouse went back."""
    drain_seconds: float = 25.0
    assignment: Assignment = field(default_factory=Assignment)
    once: bool = False
    since: float = float("inf")
    """When the ``once`` run of this session began, by ClickHouse's clock; infinite where unknown."""
    succession: Succession = field(default_factory=Succession)
    after: int = 0
    """The epoch of this process's session before, 0 when this is its first."""
    on_lost_position: Literal["resnapshot", "stop"] = "stop"
    dead_letter_limiter: DeadLetterLimits = field(default_factory=DeadLetterLimits)
    stream_delay_seconds: float = STREAM_DELAY_SECONDS
    watermark_interval_seconds: float = INTERVAL_SECONDS


@dataclass(frozen=True, slots=True)
class Services:
    """What the parts of one session share: how they show themselves, and who keeps what must last."""

    instruments: Instruments
    checkpointer: Checkpointer
    membership: Membership
    recovery: Recovery


def recovery_policy(
    on_lost_position: Literal["resnapshot", "stop"],
    streams: Sequence[StreamTask],
    snapshots: Sequence[SnapshotTask],
    *,
    shared: bool,
) -> Policy:
    """Return what may be done about a loss. ``shared``: whether the pipeline has other members."""
    plans = {snapshot.plan.table: snapshot.plan for snapshot in snapshots}
    tables = {stream.source.id: tuple(stream.tables) for stream in streams}
    unrepeatable = {}
    unusable = {table for stream in streams for table in stream.unusable}
    for table in (table for names in tables.values() for table in names if table not in unusable):
        if table not in plans:
            unrepeatable[table] = 'its snapshot.method is "none"'
        elif plans[table].export_arn:
            unrepeatable[table] = "its snapshot.export_arn names one export forever"
    destinations = {table: plan.destination_uuid for table, plan in plans.items()}
    created = {table: at for stream in streams for table, at in stream.created.items()}
    # One process knows what it has written itself; of several, each may find rows of another.
    empty = {table for table, plan in plans.items() if shared and not plan.had_rows}
    return Policy(on_lost_position, tables, unrepeatable, destinations, created, empty)
