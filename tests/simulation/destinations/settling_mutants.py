"""Bugs planted one at a time where settings and mappings are compared with what they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dyncdc.pipeline.destinations import row_settings
from dyncdc.sinks.state import mappings


def settings_are_not_compared(patch: pytest.MonkeyPatch) -> None:
    """Rows written under other settings are taken for right."""
    patch.setattr(row_settings, "_changed", lambda past, now, shown: ())


def rows_that_went_elsewhere_are_not_missed(patch: pytest.MonkeyPatch) -> None:
    """A destination that is named again counts as loaded."""
    patch.setattr(row_settings, "_elsewhere", lambda *_: ())


def mapping_is_read_from_comments_alone(patch: pytest.MonkeyPatch) -> None:
    """What is kept of a mapping counts for nothing."""
    patch.setattr(mappings, "_believed", lambda column, kept: None)


Plant = Callable[[pytest.MonkeyPatch], None]
ALL: tuple[Plant, ...] = (
    settings_are_not_compared,
    rows_that_went_elsewhere_are_not_missed,
    mapping_is_read_from_comments_alone,
)
