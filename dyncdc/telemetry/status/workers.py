"""The statuses of several workers as that of their daemon."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import msgspec

from .columns import Merge, merges_of
from .model import MOST_ERRORS, MOST_STUCK, DaemonStatus, RecentError, Shards, StuckTask, TableStatus, WorkerStatus
from .shards import worst_of
from .throughput import sum_plots

UNOWNED = "unowned"
"""State of shards that every worker counts alike."""


def merge_statuses(
    own: DaemonStatus, answers: Sequence[tuple[int, str, DaemonStatus | None]], restarts: int
) -> DaemonStatus:
    """The daemon's status: ``own`` is its supervisor's, with all that comes from ClickHouse.

    ``answers``: of each worker its number, why it does not run ("" while it does), and its document if it answered.
    """
    told = [(number, document) for number, _, document in answers if document is not None]
    documents = [document for _, document in told]
    silent = [number for number, absence, document in answers if document is None and not absence]
    absent = [
        StuckTask(f"worker {number}", 0.0, absence or "does not answer")
        for number, absence, document in answers
        if document is None and own.state != "starting"
    ]
    stuck = [
        *own.stuck,
        *absent,
        *(
            StuckTask(f"worker {number}: {task.task}", task.seconds, task.reason, task.todo)
            for number, document in told
            for task in document.stuck
        ),
    ]
    missing = [*own.missing, *(f"worker {n}: {step}" for n, document in told for step in document.missing)]
    return msgspec.structs.replace(
        own,
        **_merged(DaemonStatus, documents),
        state="stuck" if stuck else "starting" if missing else "healthy",
        missing=missing,
        stuck=stuck[:MOST_STUCK],
        planned=[
            *own.planned,
            *(
                msgspec.structs.replace(wait, task=f"worker {number}: {wait.task}")
                for number, document in told
                for wait in document.planned
            ),
        ],
        tables=[_table(table, documents, len(answers) > len(documents)) for table in own.tables],
        shards=_shards(documents),
        troubles=_recent_errors(own, told),
        workers=[
            WorkerStatus(number, absence or ("does not answer" if number in silent else "running"))
            for number, absence, _ in answers
        ],
        restarts=restarts,
    )


def _merged(struct: type, parts: Sequence[object]) -> dict[str, float | None]:
    """What the model says how to merge."""
    return {name: merge(getattr(part, name) for part in parts) for name, merge in merges_of(struct).items()}


def _table(own: TableStatus, documents: Iterable[DaemonStatus], silent: bool) -> TableStatus:
    parts = [part for document in documents for part in document.tables if part.table == own.table]
    ratio = Merge.LEAST(part.snapshot_ratio for part in parts)
    loading = any(part.snapshot == "loading" for part in parts)
    until = [part.complete_until for part in parts]
    return msgspec.structs.replace(
        own,
        **_merged(TableStatus, parts),
        snapshot="loading" if loading else _state(own, parts),
        snapshot_ratio=ratio if own.snapshot_ratio is None or loading else own.snapshot_ratio,
        # A table is as complete as its slowest worker, and no one knows while one does not say.
        complete_until=None if silent or None in until else Merge.LEAST(until),
        plot=sum_plots(part.plot for part in (own, *parts) if part.plot is not None),
    )


def _state(own: TableStatus, parts: Iterable[TableStatus]) -> str:
    if own.snapshot != "not started":
        return own.snapshot
    return next((part.snapshot for part in parts if part.snapshot != "not started"), own.snapshot)


def _shards(documents: Sequence[DaemonStatus]) -> Shards:
    states: dict[str, float] = {}
    for document in documents:
        for state, count in document.shards.states.items():
            before = states.get(state, 0.0)
            states[state] = max(before, count) if state == UNOWNED else before + count
    return Shards(
        states=states,
        read=sum(document.shards.read for document in documents),
        behind=sum(document.shards.behind for document in documents),
        expiring=sum(document.shards.expiring for document in documents),
        worst=worst_of(itertools.chain.from_iterable(document.shards.worst for document in documents)),
    )


def _recent_errors(own: DaemonStatus, told: Iterable[tuple[int, DaemonStatus]]) -> list[RecentError]:
    found = list(own.troubles)
    for number, document in told:
        found += (
            msgspec.structs.replace(error, where=", ".join(filter(None, (f"worker {number}", error.where))))
            for error in document.troubles
        )
    return sorted(found, key=lambda error: -error.last_at)[:MOST_ERRORS]
