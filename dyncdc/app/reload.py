"""Reload (SIGHUP): which keys of a configuration reread are taken up, and which need a restart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from dyncdc.app.assembly.assembly import assemble
from dyncdc.config import Config
from dyncdc.config.sections import ClickHouseConfig
from dyncdc.errors import DyncdcError, FatalError
from dyncdc.telemetry.logging import set_log_level
from dyncdc.telemetry.task_health import TaskHealth

from .context import AppContext
from .startup_retry import StartupRetry

_log = structlog.get_logger("dyncdc")

BY_SESSION = ("kinesis", "batch", "checkpoint", "dead_letters", "tables")
"""Sections that are read at the beginning of each session of the pipeline, and by no one else."""

AT_ONCE = ("log.level", "clickhouse.insert_quorum")
"""Keys of other sections that are followed without another session."""


class ReloadedError(FatalError):
    """The configuration has changed. Another session reads it; nothing is lost, what was not saved is read again."""


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """What differs from the configuration in force. ``config``: the one to go on with."""

    config: Config
    taken: tuple[str, ...]
    restart: tuple[str, ...]

    @property
    def needs_new_session(self) -> bool:
        """Whether the pipeline has to start over."""
        return any(key not in AT_ONCE for key in self.taken)


def compare(current: Config, read: Config) -> ConfigChange:
    """Return what to take from a configuration that was reread. Values show nowhere, only names of keys."""
    differing = list(_differing(current, read))
    taken = tuple(key for section, key in differing if section in BY_SESSION or key in AT_ONCE)
    restart = tuple(key for _, key in differing if key not in taken)
    update = {section: getattr(read, section) for section in BY_SESSION}
    for section, _, name in (key.partition(".") for key in AT_ONCE):
        theirs = getattr(read, section)
        update[section] = getattr(current, section).model_copy(update={name: getattr(theirs, name)})
    return ConfigChange(current.model_copy(update=update), taken, restart)


def _differing(current: Config, read: Config) -> Iterator[tuple[str, str]]:
    """Yield (section, key) of each difference; a table's key is its name."""
    for section in type(current).model_fields:
        before, after = getattr(current, section), getattr(read, section)
        if before == after:
            continue
        if section == "tables":
            old, new = ({table.dynamodb: table for table in tables} for tables in (before, after))
            names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
            yield from ((section, f"tables[{name}]") for name in names or ["order"])
        elif hasattr(type(before), "model_fields"):
            for key in type(before).model_fields:
                if getattr(before, key) != getattr(after, key) and not _is_new_password(before, after, key):
                    yield section, f"{section}.{key}"
        else:
            yield section, section


def _is_new_password(before: object, after: object, key: str) -> bool:
    """Whether nothing but the text of ``password_file`` has changed, which every connect reads for itself."""
    return (
        key == "url"
        and isinstance(before, ClickHouseConfig)
        and isinstance(after, ClickHouseConfig)
        and after.password_file is not None
        and replace(before.url, password="") == replace(after.url, password="")
    )


async def reload(
    current: Config, read: Callable[[], Config], try_out: Callable[[Config], Awaitable[object]]
) -> ConfigChange | None:
    """Read the configuration again and say what comes of it; None when everything stays as it is.

    ``try_out`` checks a configuration that would begin another session; it raises DyncdcError to keep the old one.
    """
    try:
        change = compare(current, read())
        if change.needs_new_session:
            await try_out(change.config)
    except DyncdcError as error:
        # Someone waits for each answer: with "repeats" none is left out.
        _log.error("reload rejected", error=str(error), hint=error.hint, repeats=0)
        return None
    if "log.level" in change.taken:
        set_log_level(change.config.log.level)
    if change.restart:
        _log.warning("restart required", keys=list(change.restart), repeats=0)
    _log.info("configuration reloaded", keys=list(change.taken))
    return change


def follow_quorum(context: AppContext, read: Callable[[], Config]) -> None:
    """Send inserts with the quorum of the configuration as it is now; one that cannot be read changes nothing yet."""
    with suppress(DyncdcError):
        context.clickhouse.quorum.wanted = read().clickhouse.insert_quorum


async def try_out(context: AppContext, health: TaskHealth, config: Config) -> None:
    """Check all that a configuration names, and make what is missing, within its time for starting.

    A table whose own keys are as they were may be left out, as it would be without the new configuration.

    Raises ConfigError, FatalError.
    """
    with health.task("reload") as task:
        startup_retry = StartupRetry(config.run.startup_timeout_seconds, health, task)
        same = [table.dynamodb for table in config.tables if table in context.config.tables]
        await assemble(replace(context, config=config, retry=startup_retry), strict=True, tolerated=same)
