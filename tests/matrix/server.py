"""A ClickHouse of a given version, where the tests' usual one is the version that is installed with dyncdc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from support.processes.harness import ClickHouseHttp

from dyncdc.emulator.children import Child, start_child
from dyncdc.emulator.clickhouse import LocalClickHouse

from .engines import Engine

READY_TIMEOUT_SECONDS = 90.0
"""A busy machine needs it; a free one takes two seconds."""

CHILD = Path(__file__).with_name("server_child.py")


class MatrixServer(LocalClickHouse):
    """``extra``: XML for the server's configuration. Whole servers only: the others read no further file."""

    def __init__(self, engine: Engine, directory: Path, *, extra: str = "", **options: Any) -> None:
        super().__init__(directory, **options)
        self.engine = engine
        self.extra = extra

    @property
    def name(self) -> str:
        """For messages."""
        return self.directory.name

    @property
    def address(self) -> str:
        """``clickhouse.url`` up to the database."""
        return f"clickhouse://default@127.0.0.1:{self.tcp_port}"

    def queries(self, database: str) -> ClickHouseHttp:
        """Queries to it, beside what the daemon does."""
        return ClickHouseHttp(self.http_port, database)

    async def _spawn(self) -> Child:
        arguments = [str(self.directory.resolve()), str(self.tcp_port), str(self.http_port)]
        environment = dict(self._environment())
        if self.engine.whole:
            arguments = [str(CHILD), str(self.engine.library), *arguments]
        else:
            arguments = ["-m", "dyncdc.emulator.clickhouse_child", *arguments]
            if not self.engine.of_the_environment:
                path = [str(self.engine.folder), os.environ.get("PYTHONPATH", "")]
                environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        return await start_child(
            arguments,
            name=f"ClickHouse {self.engine.name} on {self.directory}",
            log_file=self.directory / "server.log",
            ready_timeout_seconds=READY_TIMEOUT_SECONDS,
            environment=environment,
        )

    def _write_configuration(self) -> None:
        super()._write_configuration()
        if self.extra:
            file = self.directory / "conf.d" / "extra.xml"
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"<clickhouse>{self.extra}</clickhouse>\n")
