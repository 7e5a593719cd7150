"""Loop watch: a loop that stands still says where, once; one that turns says nothing."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, time
from dyncdc.telemetry.event_loop_watchdog import watch_event_loop

def blocking_call(seconds):
    time.sleep(seconds)

async def main():
    watch = asyncio.create_task(watch_event_loop(0.4))
    await asyncio.sleep(0.1)
    if {blocks}:
        blocking_call(1.5)
    await asyncio.sleep(0.2)
    watch.cancel()

asyncio.run(main())
"""


def run(*, blocks: bool) -> str:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(blocks=blocks)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_blocked_loop_is_told_once_with_the_function_that_blocks_it() -> None:
    told = run(blocks=True)
    assert told.count("in blocking_call") == 1 and told.count("Timeout") == 1, told


def test_a_loop_that_turns_says_nothing() -> None:
    assert run(blocks=False) == ""
