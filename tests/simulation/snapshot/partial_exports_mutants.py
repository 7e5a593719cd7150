"""Bugs planted one at a time where an export is told from a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dyncdc.sources.export import manifest
from simulation.mutants.pipeline import Plant


def _overlooked(patch: pytest.MonkeyPatch, is_overlooked: Callable[[str], bool]) -> None:
    """Judge an export as if it said nothing of some fields."""
    original = manifest.refuse_other_exports

    def refuse(doing: str, fields: Mapping[str, Any]) -> None:
        original(doing, {name: value for name, value in fields.items() if not is_overlooked(name)})

    patch.setattr(manifest, "refuse_other_exports", refuse)


def filtered_export_taken_for_whole(patch: pytest.MonkeyPatch) -> None:
    """What an SDK does that drops the fields it does not know: nothing tells of a filter."""
    _overlooked(patch, lambda name: name.lower().startswith("filter"))


def only_filters_that_are_known(patch: pytest.MonkeyPatch) -> None:
    """A filter by another name is none."""
    _overlooked(patch, lambda name: name.lower().startswith("filter") and name.lower() != "filterspecification")


def names_as_the_description_spells_them(patch: pytest.MonkeyPatch) -> None:
    """The summary spells the same names differently."""
    _overlooked(patch, lambda name: name[0].islower() and name.startswith(("filter", "incremental", "exportType")))


def incremental_by_its_type_alone(patch: pytest.MonkeyPatch) -> None:
    """An incremental export that does not say its type is full."""
    _overlooked(patch, lambda name: name.lower() == "incrementalexportspecification")


ALL: tuple[Plant, ...] = (
    filtered_export_taken_for_whole,
    only_filters_that_are_known,
    names_as_the_description_spells_them,
    incremental_by_its_type_alone,
)
