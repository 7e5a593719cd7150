"""An export that leaves items out is never taken for a snapshot, whichever of its documents tells of it, and how."""

from __future__ import annotations

from collections import Counter

from simulation.budget import seeds

from .partial_exports import run


def test_an_export_is_a_snapshot_only_if_neither_of_its_documents_says_that_it_leaves_anything_out() -> None:
    counted: Counter[str] = Counter()
    for seed in seeds(400):
        counted += run(seed)
    assert min(counted[kind] for kind in ("filtered", "incremental", "whole")) > 50, counted
