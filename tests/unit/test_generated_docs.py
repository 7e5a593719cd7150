"""The pages of docs/ that list things are what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "tools" / "generate_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["metrics", "configuration"])
def test_a_listing_page_is_what_make_docs_would_write(generator: ModuleType, page: str) -> None:
    assert (ROOT / "docs" / f"{page}.md").read_text() == getattr(generator, f"{page}_page")(), "run `make docs`"
