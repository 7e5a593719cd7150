"""docs/traps.md and the suite agree: every trap has its tests, and every test that names a trap is listed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
COUNTS = {"O": 14, "S": 15, "K": 16, "T": 15, "C": 16}
NOT_YET = {"S15", "K14"}
"""Traps of features that do not exist: the only ones without a test."""


@pytest.fixture(scope="module")
def listing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("list_traps", ROOT / "tools" / "list_traps.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_trap_is_on_the_page_once(listing: ModuleType) -> None:
    wanted = [f"{dead_letter}{number}" for dead_letter, count in COUNTS.items() for number in range(1, count + 1)]
    assert sorted(identity for identity, *_ in listing.traps()) == sorted(wanted)


def test_every_trap_has_a_test_or_waits_for_its_feature(listing: ModuleType) -> None:
    tested = set(listing.tests())
    assert {identity for identity, *_ in listing.traps()} - tested == NOT_YET
    assert all(waits for identity, _, _, waits in listing.traps() if identity in NOT_YET)


def test_no_test_names_a_trap_that_does_not_exist(listing: ModuleType) -> None:
    assert set(listing.tests()) <= {identity for identity, *_ in listing.traps()}


def test_every_test_that_names_a_trap_is_on_the_page(listing: ModuleType) -> None:
    """Catches: a folder of tests that is no level, whose tests are left out."""
    page = listing.page()
    names = [name for levels in listing.tests().values() for found in levels.values() for name in found]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_page_names_the_tests_that_there_are(listing: ModuleType) -> None:
    assert (ROOT / "docs" / "traps.md").read_text(encoding="utf-8") == listing.page(), "run `make docs`"
