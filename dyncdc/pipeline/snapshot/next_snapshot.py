"""Which snapshot a table needs now: the one that is under way, another one, or none. Pure decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dyncdc.model.gaps import Gap, Request
from dyncdc.model.snapshots import Snapshot
from dyncdc.pipeline.recovery.gaps import needs_snapshot


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do next. ``go_on`` None: begin a new snapshot, or, when ``done``, nothing.

    ``superseded``: an unfinished snapshot to give up first. ``complete``: the newest one, when it is.
    """

    done: bool = False
    go_on: Snapshot | None = None
    superseded: Snapshot | None = None
    complete: Snapshot | None = None


def choose(known: Sequence[Snapshot], gaps: Sequence[Gap], request: Request | None) -> Choice:
    """Decide for one destination. ``known``: its snapshots, the oldest first; ``gaps``: the open ones.

    A snapshot closes a gap only if the table was covered from the gap's end on, and answers a request only if it was
    begun for it: what is loading when someone asks may have been exported long before.
    """
    newest = known[-1] if known else None
    if newest is None or newest.state == "failed":
        return Choice()
    late = needs_snapshot(newest, gaps)
    if newest.state == "complete":
        unanswered = request is not None and newest.request != request.id
        return Choice(done=not late and not unanswered, complete=newest)
    if newest.state == "waiting":
        # Nothing was asked for yet: it can still become the one that is wanted.
        return Choice(
            go_on=replace(
                newest,
                covered_from=0.0 if late else newest.covered_from,
                had_rows=newest.had_rows or bool(gaps) or request is not None,
                request=request.id if request is not None else newest.request,
            )
        )
    return Choice(superseded=newest) if late else Choice(go_on=newest)


def version_floor(known: Sequence[Snapshot], snapshot: Snapshot) -> int:
    """The version (microseconds) that a snapshot must exceed, so that its rows win over those of all before it."""
    return max((other.version for other in known if other.id != snapshot.id), default=0)
