"""On how many replicas an insert must be before it counts as acknowledged: by configuration and by what is there."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal

from dyncdc.errors import AccessDeniedError
from dyncdc.schema.sql.quoting import quote_text

from .query_settings import Settings

InsertQuorum = Literal["auto", "off"] | int

KNOWN_SECONDS: Final = 60.0
"""How long the number of a table's replicas is taken for what it was: replicas are added and dropped by hand."""

WAIT_SHARE: Final = 0.75
"""Of the client's time limit: that the replicas are late is to be answered before it hangs up."""

MISSED: Final = frozenset({285, 286, 289, 319})
"""TOO_FEW_LIVE_REPLICAS, UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE, REPLICA_IS_NOT_IN_QUORUM, UNKNOWN_STATUS_OF_INSERT."""

DENIED: Final = 0
"""In place of a number: the user may not look, and would be refused again with each insert."""

NO_QUORUM: Final[Settings] = {"insert_quorum": 0}

_INSERT: Final = re.compile(r"INSERT INTO (?:`((?:[^`\\]|\\.)*)`|(\w+))[ (]", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_PLAIN: Final = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}

Ask = Callable[[str], Awaitable[Sequence[Sequence[Any]]]]


class Quorum:
    """What to send with an insert. ``wanted`` may be changed at any time.

    "auto" is a majority of the replicas, which the server counts. A single one it would let wait without limit for
    another's word, so there it is none.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self.wanted: InsertQuorum = "auto"
        self._timeout_ms = max(1, round(timeout_seconds * WAIT_SHARE * 1000))
        self._known: dict[str, tuple[float, Settings]] = {}

    async def settings(self, sql: str, ask: Ask) -> Settings:
        """Return the settings of a statement; nothing for what inserts nothing."""
        found = _INSERT.match(sql)
        if found is None:
            return {}
        if self.wanted == "off":
            return NO_QUORUM
        if self.wanted != "auto":
            return self._of(self.wanted)
        table = found[2] or _ESCAPED.sub(lambda match: _PLAIN.get(match[1], match[1]), found[1])
        asked_at, known = self._known.get(table, (0.0, {}))
        if not asked_at or time.monotonic() - asked_at > KNOWN_SECONDS:
            try:
                replicas = await self._replicas(table, ask)
            except AccessDeniedError:
                replicas = DENIED
            known = self._of("auto") if replicas != 1 else NO_QUORUM
            if replicas is not None:
                self._known[table] = time.monotonic(), known
        return known

    def forget(self) -> None:
        """Count the replicas again with the next insert: a quorum was missed."""
        self._known.clear()

    def _of(self, replicas: InsertQuorum) -> Settings:
        """Several inserts may wait for theirs at the same time."""
        return {"insert_quorum": replicas, "insert_quorum_parallel": 1, "insert_quorum_timeout": self._timeout_ms}

    async def _replicas(self, table: str, ask: Ask) -> int | None:
        """How many there are, 1 of what is not replicated; None where no one can tell now, as without a keeper.

        Raises AccessDeniedError.
        """
        rows = await ask(
            "SELECT total_replicas FROM system.replicas"
            f" WHERE database = currentDatabase() AND table = {quote_text(table)}"
        )
        return 1 if not rows else int(rows[0][0]) or None
