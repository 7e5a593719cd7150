"""What all tests share: end-to-end tests get more time, and processes can do without the compiled decoders."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

E2E_TIMEOUT_SECONDS = 120

# Tests start hundreds of processes: each would compile all that it imports anew, which takes longer than the test.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests marked e2e their own time-out, unless they name one."""
    for item in items:
        if item.get_closest_marker("e2e") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(E2E_TIMEOUT_SECONDS))


REFUSING = """
import sys

class Refusing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in ("dyncdc.decode.compiled._rows", "dyncdc.sources._bodies"):
            raise ImportError(name)

sys.meta_path.insert(0, Refusing)
"""


@pytest.fixture
def without_compiler(tmp_path: Path) -> dict[str, str]:
    """The environment of processes in which it is as if no C compiler had been there."""
    place = tmp_path / "without-compiler"
    place.mkdir()
    (place / "sitecustomize.py").write_text(REFUSING)
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    }
