"""DaemonState: what the start, the sessions and the pages of one process share."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from dyncdc.app.assembly.assembly import Assembly
from dyncdc.app.context import AppContext
from dyncdc.app.process.signals import Stop
from dyncdc.app.process.this_process import is_gone, this_process
from dyncdc.app.reload import ConfigChange, reload, try_out
from dyncdc.app.run_options import RunOptions
from dyncdc.app.startup_retry import StartupRetry
from dyncdc.app.status_feed import make_status_builder, table_facts
from dyncdc.config import Config
from dyncdc.pipeline.members.succession import Succession
from dyncdc.telemetry.http import Readiness
from dyncdc.telemetry.metrics import Metrics
from dyncdc.telemetry.task_health import TaskHealth

DESTINATIONS_CHECKED = "destinations checked"
CHECKPOINTS_LOADED = "checkpoints loaded"


def _usable(table: str) -> str:
    """The step of readiness that a table which can not be used keeps open."""
    return f"table {table} usable"


class DaemonState:
    """The configuration in force, and how the process shows itself."""

    def __init__(self, config: Config, stop: Stop, options: RunOptions) -> None:
        self.config = config
        self.stop = stop
        self.options = options
        self.metrics = Metrics()
        self.health = TaskHealth(stuck_after_seconds=config.run.stuck_after_seconds)
        self.readiness = Readiness.of([DESTINATIONS_CHECKED, CHECKPOINTS_LOADED])
        self.metrics.watch_stuck(lambda: [task.name for task in self.health.stuck()])
        self.status = make_status_builder(config, options.assignment, self.metrics, self.health, self.readiness.missing)
        self.epoch = 0
        """Of the last session; 0 before the first."""

    @property
    def succession(self) -> Succession:
        """How the next session takes the place of another process."""
        return Succession(this_process(), is_gone, self.options.take_over and not self.epoch, not self.options.once)

    def startup_retry(self, starting: ExitStack) -> StartupRetry:
        """Health names the start until ``starting`` is closed."""
        task = starting.enter_context(self.health.task("start"))
        return StartupRetry(self.config.run.startup_timeout_seconds if self.options.once else None, self.health, task)

    def declare(self, assembly: Assembly) -> None:
        """Show all tables of an assembly, also before they have any record."""
        for table in assembly.tables:
            for name in filter(None, (table.spec.destination, table.spec.history)):
                self.metrics.declare(table.spec.source_table, name)
            self.metrics.tables.table_usable.labels(table.spec.source_table).set(1)
            self.readiness.done(_usable(table.spec.source_table))
        for one in assembly.unusable:
            self.readiness.wait_for(_usable(one.config.dynamodb))

    async def read_again(self, context: AppContext) -> ConfigChange | None:
        """Read the configuration at SIGHUP; None when everything stays as it is."""
        if self.options.read is None:
            return None
        with self.stop.answering_reload():
            return await reload(self.config, self.options.read, partial(try_out, context, self.health))

    def follow(self, context: AppContext, config: Config) -> None:
        """Take up a configuration that was reread."""
        kept = {table.dynamodb for table in config.tables}
        for table in self.config.tables:
            if table.dynamodb not in kept:
                self.readiness.done(_usable(table.dynamodb))
                self.metrics.forget(table.dynamodb, *filter(None, (table.destination, table.history)))
        self.config = context.config = config
        context.clickhouse.quorum.wanted = config.clickhouse.insert_quorum
        self.status.set_planned(table_facts(config))
