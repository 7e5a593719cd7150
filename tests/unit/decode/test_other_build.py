"""A compiled module of other sources than the Python code goes with, as an update without a build leaves it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from simulation.decode.building import build_bodies, build_reader

import dyncdc
from dyncdc.decode import backend
from dyncdc.native import _get_records as _bodies
from dyncdc.native import _rows
from dyncdc.native.version import VERSION, OtherBuildError, demand_version, why_missing
from dyncdc.sources.kinesis import get_records

PACKAGE = Path(dyncdc.__file__).parent

BUILT = (2, "62e16df9e934c9e6")
"""The version of the C sources, and their digest. Whoever changes a C file raises the one, in version.h and in
version.py, and writes down the other: nothing else tells an older build from a newer one."""

OTHER = ("version.h", f"#define DYNCDC_VERSION {VERSION}", f"#define DYNCDC_VERSION {VERSION - 1}")
NONE = ("rows.c", 'PyModule_AddIntConstant(module, "VERSION", DYNCDC_VERSION)', "0")

FINDER = """
import importlib.util, sys

class Older:
    @staticmethod
    def find_spec(name, path=None, target=None):
        place = {places!r}.get(name)
        return importlib.util.spec_from_file_location(name, place) if place else None

sys.meta_path.insert(0, Older)
"""

USED = """
from dyncdc.decode import backend
from dyncdc.sources.kinesis import get_records
print(backend.IS_COMPILED, get_records.split(b'{"Records":[]}') is not None)
print(backend.WHY_EXACT)
print(get_records.WHY_EXACT)
"""


def sources_digest() -> str:
    """A digest of all C sources, their names included."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.[ch]")):
        digest.update(f"{file.relative_to(PACKAGE)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def test_c_sources_that_were_changed_have_another_version() -> None:
    assert BUILT == (VERSION, sources_digest()), "raise DYNCDC_VERSION and VERSION, then write both here"


def test_both_modules_have_the_version_of_the_python_code() -> None:
    (found,) = re.findall(r"#define DYNCDC_VERSION (\d+)", (PACKAGE / "native/base/version.h").read_text())
    assert {int(found), _rows.VERSION, _bodies.VERSION} == {VERSION}
    assert (backend.WHY_EXACT, get_records.WHY_EXACT) == ("", "")


@pytest.mark.parametrize("exchanged", [OTHER, NONE], ids=["another", "none"])
def test_a_module_of_another_version_is_refused(exchanged: tuple[str, str, str]) -> None:
    with pytest.raises(OtherBuildError) as caught:
        demand_version(build_reader(exchanged))
    assert why_missing(caught.value).endswith("install dyncdc again")
    assert "compiler" not in why_missing(caught.value)
    assert "compiler" in why_missing(ModuleNotFoundError("no such module"))


def with_modules(tmp_path: Path, **places: ModuleType) -> list[str]:
    """What a process says that finds these modules in place of the built ones."""
    names = {"rows": "dyncdc.native._rows", "bodies": "dyncdc.native._get_records"}
    found = {names[name]: str(module.__file__) for name, module in places.items()}
    (tmp_path / "sitecustomize.py").write_text(FINDER.format(places=found))
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", USED]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True)
    return ended.stdout.splitlines()


def test_records_take_the_exact_path_where_a_module_is_of_another_version(tmp_path: Path) -> None:
    used, rows, answers = with_modules(tmp_path, rows=build_reader(OTHER), bodies=build_bodies())
    assert used == "False True"
    assert "other sources" in rows and not answers
    older = build_bodies("-DDYNCDC_VERSION_H", f"-DDYNCDC_VERSION={VERSION - 1}")
    used, rows, answers = with_modules(tmp_path, bodies=older)
    assert used == "True False"
    assert "other sources" in answers and not rows
