"""In every daemon of a history: SIGUSR1 makes it write to its log what each of its tasks is waiting for."""

from __future__ import annotations

import asyncio
import signal
import sys
import traceback


def _testify(_number: int, frame: object) -> None:
    try:
        tasks = asyncio.all_tasks(asyncio.get_running_loop())
    except RuntimeError:
        traceback.print_stack(frame, file=sys.stderr)  # type: ignore[arg-type]
        return
    for task in tasks:
        print(f"task {task.get_name()}, cancelled {task.cancelling()} times", file=sys.stderr)
        task.print_stack(file=sys.stderr)
    sys.stderr.flush()


signal.signal(signal.SIGUSR1, _testify)
