"""What is about one table, and what is about all: the one place that decides it."""

from __future__ import annotations

import pytest
from support.pipeline.virtual_time import run

from dyncdc.app.context import AppContext
from dyncdc.app.startup_retry import StartupRetry
from dyncdc.app.unusable_tables import Unusable, UsableAgainError, first_of, or_unusable, watch_unusable
from dyncdc.config.snapshots import SnapshotConfig
from dyncdc.config.tables import TableConfig
from dyncdc.errors import (
    AccessDeniedError,
    ConfigError,
    DyncdcError,
    FatalError,
    RefusedError,
    RetryableError,
    UnusableTableError,
)
from dyncdc.sinks.client.error_codes import LoginRefused
from dyncdc.sinks.state.destinations import DetachedError
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth, TaskProgress

CONFIG = TableConfig(dynamodb="orders", snapshot=SnapshotConfig(method="none"))


def answered(error: DyncdcError) -> DyncdcError:
    """An error that a service has caused."""
    error.__cause__ = RuntimeError("a service's answer")
    return error


async def tried(error: DyncdcError) -> object:
    """What comes of an error the first time; after that all is well."""
    health, errors = TaskHealth(), [error]
    with health.task("start") as task:
        world = AppContext(None, None, None, StartupRetry(None, health, task))  # type: ignore[arg-type]

        async def once() -> str:
            if errors:
                raise errors.pop()
            return "used"

        async def operation(careful: AppContext, config: TableConfig) -> str:
            return await careful.retry(once)

        return await or_unusable(world, CONFIG, operation)


@pytest.mark.parametrize(
    "error",
    [
        UnusableTableError("its TTL removes rows"),
        answered(ConfigError("there is no such table")),
        FatalError("reading orders: broken"),
        AccessDeniedError("no SELECT on orders"),
        RefusedError("an unknown code"),
        DetachedError("orders is detached"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_stands_in_the_way_of_one_table_leaves_that_table_out(error: DyncdcError) -> None:
    found = run(tried(error))
    assert isinstance(found, Unusable) and str(error) in str(found.error)


@pytest.mark.parametrize("error", [RetryableError("no answer"), LoginRefused("no such user")], ids=str)
def test_an_outage_is_waited_for_by_all(error: DyncdcError) -> None:
    assert run(tried(error)) == "used"


def test_a_configuration_that_is_wrong_by_itself_leaves_nothing_out() -> None:
    with pytest.raises(ConfigError, match="unknown type"):
        run(tried(ConfigError("unknown type")))


def test_where_no_table_can_be_used_what_passes_by_itself_is_waited_for() -> None:
    denied = UnusableTableError("denied")
    denied.__cause__ = AccessDeniedError("denied")
    wrong = UnusableTableError("its TTL removes rows")
    assert first_of([Unusable(CONFIG, wrong), Unusable(CONFIG, denied)]) is denied.__cause__
    assert first_of([Unusable(CONFIG, wrong)]) is wrong


def test_a_table_that_is_left_out_is_looked_at_until_it_can_be_used_and_red_all_the_while() -> None:
    health, metrics, looks = TaskHealth(), Metrics(), list[str]()

    async def look(task: TaskProgress, before: DyncdcError) -> DyncdcError | None:
        task.moved()  # a look that is answered is no repair
        looks.append(str(before))
        assert [(stuck.name, stuck.reason) for stuck in health.stuck()] == [("table:orders", f"{before}; do this")]
        assert metrics.registry.get_sample_value("dyncdc_table_usable", {"table": "orders"}) == 0
        return UnusableTableError(f"look {len(looks)}", hint="do this") if len(looks) < 50 else None

    error = UnusableTableError("look 0", hint="do this")
    with pytest.raises(UsableAgainError):
        run(watch_unusable(Unusable(CONFIG, error), look, metrics, health))
    assert looks == [f"look {number}" for number in range(50)]
