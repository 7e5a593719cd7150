"""What a person can do about a stuck task, by its kind. One line each; docs/operations/alerts.md has more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_CLICKHOUSE: Final = "fix ClickHouse (down, frozen, read-only, full?); what it lacks is sent again, without a restart"
_AWS: Final = "`dyncdc check` names what AWS refuses; else look at the network, and at who else reads the stream"

HINTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "insert",
            "checkpointer",
            "watermarks",
            "members",
            "others",
            "requests",
            "recovery",
            "columns",
            "histories",
            "tombstones",
        ),
        _CLICKHOUSE,
    ),
    **dict.fromkeys(("shard", "discovery", "destination"), _AWS),
    "snapshot": "fix what is named here; a snapshot that has failed waits for `dyncdc snapshot TABLE`",
    "destinations": "fix ClickHouse, or attach the table that the reason names; nothing needs a restart",
    "table": "fix what is named here; it joins by itself, with what came meanwhile",
    "mapping": "give the destination its columns back as said here, and restart, or name them in the configuration",
    "start": "fix what is named here; the start goes on by itself",
    "reload": "fix what is named here; the former configuration stays in force meanwhile",
}
"""Kind of a task, which its name begins with, to what to do."""


def hint_for(task: str) -> str:
    """Return the hint for a task of this name, "" for a kind without one."""
    return HINTS.get(task.partition(":")[0], "")
