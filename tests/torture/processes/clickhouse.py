"""A ClickHouse whose daemon's user can be given another profile, and whose data can be set back."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dyncdc.emulator.clickhouse import LocalClickHouse

from .clock import Clock

USER, PASSWORD = "daemon", "correct-horse"

ODD_PROFILES: Sequence[Mapping[str, object]] = (
    {"extremes": 1, "final": 1},
    {"data_type_default_nullable": 1, "aggregate_functions_null_for_empty": 1, "join_use_nulls": 1},
    {"limit": 3, "offset": 1},
    {"max_result_rows": 2, "result_overflow_mode": "break"},
    {"async_insert": 1, "wait_for_async_insert": 0, "insert_deduplicate": 0},
    {"max_block_size": 1, "max_threads": 1, "optimize_on_insert": 0},
    {"force_primary_key": 1, "max_columns_to_read": 3, "max_temporary_columns": 3},
    {"date_time_input_format": "best_effort", "date_time_output_format": "iso", "session_timezone": "Asia/Tokyo"},
    {"max_partitions_per_insert_block": 1, "input_format_null_as_default": 0, "insert_null_as_default": 0},
)
"""Settings that someone's profile may have and that change answers, types, limits or formats."""


class TorturedClickHouse(LocalClickHouse):
    """``profile``: what the daemon's user is given at the next start; the judge's user keeps the defaults."""

    def __init__(self, directory: Path, clock: Clock, **options: Any) -> None:
        super().__init__(directory, users={USER: PASSWORD}, **options)
        self.profile: Mapping[str, object] = {}
        self._clock = clock

    def _environment(self) -> Mapping[str, str]:
        return self._clock.environment

    def _write_configuration(self) -> None:
        super()._write_configuration()
        file = self.directory / "users.xml"
        text = file.read_text()
        settings = "".join(f"<{name}>{value}</{name}>" for name, value in self.profile.items())
        head, mark, tail = text.partition(f"<{USER}>")
        assert mark, "the configuration of the local ClickHouse has another form"
        tail = tail.replace("<profile>default</profile>", "<profile>odd</profile>", 1)
        odd = f"<profiles><odd><profile>default</profile>{settings}</odd>"
        file.write_text((head + mark + tail).replace("<profiles>", odd, 1))

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def copy_data(self, to: Path) -> None:
        """Copy the data as it is at one instant, as a volume's snapshot does."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            shutil.copytree(self._data, to, symlinks=True)
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def set_back(self, copy: Path) -> None:
        """Put a copy in place of the data. Only while the server is down."""
        shutil.rmtree(self._data)
        copy.rename(self._data)

    def drop_newest_parts(self, uuids: Sequence[str], seconds: float) -> int:
        """Remove the parts of some tables that are younger than this, as a host that lost power does.

        Only while the server is down. Return how many there were.
        """
        since = time.time() - seconds
        removed = 0
        for uuid in uuids:
            folder = self._data / "store" / uuid[:3] / uuid
            for part in folder.iterdir() if folder.exists() else ():
                is_part = part.is_dir() and part.name != "detached" and not part.name.startswith(("tmp", "delete_tmp"))
                if is_part and part.stat().st_mtime >= since:
                    shutil.rmtree(part)
                    removed += 1
        return removed
