"""Which tables can not be used now, and why: the one place that decides it. They are left out, and looked at again.

A table is unusable when what stands in the way is its own: its destination, its streaming destination, a permission for
it. An outage is no one's own and is waited for by all; a configuration that is wrong by itself ends the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dyncdc.config import TableConfig
from dyncdc.errors import (
    AccessDeniedError,
    ConfigError,
    DyncdcError,
    FatalError,
    RefusedError,
    RetryableError,
    UnusableTableError,
)
from dyncdc.pipeline.runtime import Backoff, is_recoverable
from dyncdc.sinks.client.error_codes import LoginRefused, SettingRefusedError
from dyncdc.sinks.state.destinations import DetachedError
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth, TaskProgress

from .context import AppContext

T = TypeVar("T")


class UsableAgainError(FatalError):
    """A table that was left out can be used: another session begins, which reads what was held back for it."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """A table that is left out. ``error`` says why."""

    config: TableConfig
    error: DyncdcError


async def or_unusable(
    context: AppContext, config: TableConfig, operation: Callable[[AppContext, TableConfig], Awaitable[T]]
) -> T | Unusable:
    """Do something for one table. Raises ConfigError for what is not about that table alone."""
    try:
        return await operation(replace(context, retry=replace(context.retry, of_table=is_of_table)), config)
    except FatalError as error:
        return Unusable(config, error)
    except ConfigError as error:
        if not isinstance(error, UnusableTableError) and not is_recoverable(error):
            raise
        return Unusable(config, error)


def is_of_table(error: RetryableError) -> bool:
    """Whether a refusal is about what was asked for, and not about who asks or whether anybody answers."""
    if isinstance(error, LoginRefused | SettingRefusedError):
        return False
    return isinstance(error, AccessDeniedError | RefusedError | DetachedError)


def first_of(unusable: Sequence[Unusable]) -> DyncdcError:
    """What to raise where no table can be used: rather what passes by itself than what ends the process."""
    errors = [one.error for one in unusable]
    passing = [error.__cause__ for error in errors if isinstance(error.__cause__, RetryableError)]
    return passing[0] if passing else errors[0]


async def watch_unusable(
    one: Unusable,
    look: Callable[[TaskProgress, DyncdcError], Awaitable[DyncdcError | None]],
    metrics: Metrics,
    health: TaskHealth,
) -> None:
    """Report a table that is left out, and check it until it can be used: then raise UsableAgainError.

    ``look`` gets why it could not be used before, and returns why it still can not.
    """
    table, error, backoff = one.config.dynamodb, one.error, Backoff(first_seconds=1.0)
    metrics.tables.table_usable.labels(table).set(0)
    with health.task(f"table:{table}") as task:
        health.log_error("table left out", table=table, error=str(error), hint=error.hint)
        while True:
            task.failed(f"{error}; {error.hint}" if error.hint else str(error))
            pause_seconds = backoff.next_seconds()
            health.log_retry(task.name, error, pause_seconds)
            await asyncio.sleep(pause_seconds)
            found = await look(task, error)
            if found is None:
                health.log_info("table usable again", table=table)
                raise UsableAgainError(f"using {one.config.destination} for {table}: it can be used again")
            error = found
