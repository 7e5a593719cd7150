"""What the C library does with memory that is free: a process of its own each time, as it cannot be undone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
from dyncdc.app.allocator import settle_memory
if {settled}:
    settle_memory(64 * 2**20)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def answers(times):
    for _ in range(times):
        copies = [b"x" * 3_000_000 for _ in range(4)]  # as it comes, joined, decoded, and its cells
        del copies

answers(3)
before = faults()
answers(20)
print(faults() - before)
"""


def page_faults(*, settled: bool, **environment: str) -> int:
    """Pages that the kernel had to clear for twenty answers of 3 MB, after the first three."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", FAULTS.format(settled=settled)]
    done = subprocess.run(command, env=inherited | environment, check=True, capture_output=True, text=True)
    return int(done.stdout)


GLIBC = platform.libc_ver()[0] == "glibc"


@pytest.mark.skipif(not GLIBC, reason="another C library, which is left as it is")
def test_an_answer_takes_the_memory_of_the_one_before() -> None:
    assert page_faults(settled=False) > 5_000
    assert page_faults(settled=True) < 500


@pytest.mark.skipif(not GLIBC, reason="another C library, which is left as it is")
def test_who_has_set_the_library_otherwise_is_left_alone() -> None:
    assert page_faults(settled=True, MALLOC_TRIM_THRESHOLD_="131072") > 5_000
