"""How the process treats memory once it replicates: megabytes come and go with every answer, little stays."""

from __future__ import annotations

import ctypes
import gc
import os

GC_THRESHOLDS = (20_000, 20, 100)
"""Decoding makes thousands of small containers and drops them at once, none in a cycle. By default every 700th would
start a collection: 4 % of the CPU time (measured)."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Source: glibc, malloc.h."""

LARGEST_KEPT_BYTES = 8 * 2**20
"""Buffers up to here are taken from the heap: more than an answer of Kinesis, or a statement, has."""

KEPT_SHARE = 4
"""A quarter of the budget may stay with the process when it is free: it will be wanted again within a second."""

LARGEST_OPTION = 2**31 - 1
"""``mallopt`` takes an int: of more than that it would see what is left of it, which may be nothing."""


def tune_allocator(budget_bytes: int) -> None:
    """Leave alone what the start has made, and do not give back to the system what the next answer will take again.

    The C library gives large buffers back at once, and the kernel clears every page of the next one: a fifteenth of the
    CPU time of a record (measured). ``MALLOC_…`` in the environment, and what ``GLIBC_TUNABLES`` says of it, is left
    as the user set it; other C libraries than glibc have no such setting.

    Once in each session: what the session before has left behind is looked through first, or it would stay forever.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc." in tunables or any(name.startswith("MALLOC_") for name in os.environ):
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        kept_bytes = min(budget_bytes // KEPT_SHARE, LARGEST_OPTION)
        set_option(M_TRIM_THRESHOLD, kept_bytes)
        set_option(M_MMAP_THRESHOLD, min(LARGEST_KEPT_BYTES, kept_bytes))
