"""What becomes of memory that is free: a process of its own each time, as what is set cannot be undone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
from dyncdc.app.process.allocator import tune_allocator
if {settled}:
    tune_allocator({budget_bytes})

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


def page_faults(*, settled: bool, budget_bytes: int = 64 * 2**20, **environment: str) -> int:
    """Pages that the kernel had to clear for twenty answers of 3 MB, after the first three."""
    return int(printed(FAULTS.format(settled=settled, budget_bytes=budget_bytes), **environment))


def printed(program: str, **environment: str) -> str:
    """What a program prints in a process whose memory no one has settled yet."""
    ours = ("MALLOC_", "GLIBC_TUNABLES")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=inherited | environment, check=True, capture_output=True, text=True).stdout


GLIBC = platform.libc_ver()[0] == "glibc"


@pytest.mark.skipif(not GLIBC, reason="another C library, which is left as it is")
def test_an_answer_takes_the_memory_of_the_one_before() -> None:
    assert page_faults(settled=False) > 5_000
    assert page_faults(settled=True) < 500


@pytest.mark.skipif(not GLIBC, reason="another C library, which is left as it is")
def test_a_budget_beyond_what_the_library_can_be_told_is_no_small_one() -> None:
    """A quarter of it has a bit above an int's, and no other."""
    assert page_faults(settled=True, budget_bytes=16 * 2**30) < 500


@pytest.mark.skipif(not GLIBC, reason="another C library, which is left as it is")
@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}],
    ids=["MALLOC_", "GLIBC_TUNABLES"],
)
def test_who_has_set_the_library_otherwise_is_left_alone(environment: dict[str, str]) -> None:
    assert page_faults(settled=True, **environment) > 5_000


LIVES = """
import weakref
from dyncdc.app.process.allocator import tune_allocator

class Session:
    def __init__(self):
        self.itself = self

session = Session()
gone = weakref.ref(session)
tune_allocator(64 * 2**20)
del session
tune_allocator(64 * 2**20)
print(gone() is None)
"""


def test_what_one_session_leaves_behind_is_gone_in_the_next() -> None:
    assert printed(LIVES) == "True\n"
