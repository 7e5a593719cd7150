"""Requests: the snapshots that someone has asked for with ``dyncdc snapshot``, until they are done."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from dyncdc.model.gaps import Request
from dyncdc.model.snapshots import Snapshot
from dyncdc.telemetry.task_health import TaskHealth

from .policy import Policy


class SnapshotRequests:
    """The open requests of this session's tables, as of the last look."""

    def __init__(self, policy: Policy, health: TaskHealth) -> None:
        self._policy = policy
        self._health = health
        self._open: dict[str, Request] = {}
        self._closed: set[str] = set()
        """Requests that are done or ignored: a look that was under way may still show them."""

    def add(self, requests: Iterable[Request]) -> list[str]:
        """Take up what a look has shown; return the tables of those that are new."""
        known, tables = self._policy.all_tables, []
        for request in requests:
            if request.id in self._open or request.id in self._closed or request.table not in known:
                continue
            why_not = self._policy.unrepeatable.get(request.table)
            if why_not is not None:
                self._closed.add(request.id)
                self._health.log_info(
                    "snapshot request ignored", table=request.table, request=request.id, reason=why_not
                )
                continue
            self._open[request.id] = request
            self._health.log_info("snapshot requested", table=request.table, request=request.id)
            tables.append(request.table)
        return tables

    def keep(self, still_open: Collection[str]) -> None:
        """Forget the requests that are not among these: another member has answered them."""
        for id_ in self._open.keys() - still_open:
            del self._open[id_]

    def newest(self, table: str) -> Request | None:
        """The newest request for a table that no one has answered."""
        if table in self._policy.unrepeatable:
            return None
        asked = [request for request in self._open.values() if request.table == table]
        return max(asked, key=_age, default=None)

    def tables(self) -> set[str]:
        """Tables that a snapshot is wanted of."""
        return {request.table for request in self._open.values()} - self._policy.unrepeatable.keys()

    def answered(self, snapshot: Snapshot) -> list[Request]:
        """The requests that a complete snapshot answers: its own, and those before it."""
        own = self._open.get(snapshot.request)
        if own is None:
            return []
        return [one for one in self._open.values() if one.table == snapshot.table and _age(one) <= _age(own)]

    def close(self, done: Sequence[Request], snapshot: Snapshot) -> None:
        """Forget requests that are durably done."""
        for request in done:
            del self._open[request.id]
            self._closed.add(request.id)
            self._health.log_info(
                "snapshot request done", table=request.table, request=request.id, snapshot=snapshot.id
            )


def _age(request: Request) -> tuple[float, str]:
    return request.requested_at, request.id
