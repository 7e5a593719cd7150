"""The C modules, built otherwise than the package builds them: with a bug planted, or without vector instructions."""

from __future__ import annotations

import functools
import importlib.util
import shlex
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

import dyncdc

PACKAGE = Path(dyncdc.__file__).parent
PORTABLE = "-DDYNCDC_PORTABLE"
"""As on a processor of another kind."""

_BUILT = tempfile.TemporaryDirectory(prefix="dyncdc-built-")


@functools.cache
def build_reader(exchanged: tuple[str, str, str] | None = None, *flags: str) -> ModuleType:
    """Compile the reader; ``exchanged``: file, right, wrong. Raises ValueError unless the former is there once."""
    return _build("native/rows/rows.c", "dyncdc.native._rows", exchanged, flags)


@functools.cache
def build_bodies(*flags: str) -> ModuleType:
    """Compile what splits answers."""
    return _build("native/get_records/get_records.c", "dyncdc.native._get_records", None, flags)


def _build(source: str, name: str, exchanged: tuple[str, str, str] | None, flags: tuple[str, ...]) -> ModuleType:
    place = Path(tempfile.mkdtemp(dir=_BUILT.name))
    for each in PACKAGE.rglob("*.[ch]"):
        copy = place / each.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = each.read_text()
        if exchanged is not None and copy.name == exchanged[0]:
            if text.count(exchanged[1]) != 1:
                raise ValueError(f"{exchanged[0]} does not hold {exchanged[1]!r} once")
            text = text.replace(*exchanged[1:])
        copy.write_text(text)
    module = place / f"{name.rpartition('.')[2]}{sysconfig.get_config_var('EXT_SUFFIX')}"
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    include = f"-I{sysconfig.get_paths()['include']}"
    command = [*compiler, "-O0", *flags, "-shared", "-fPIC", "-w", include, str(place / source), "-o", str(module)]
    subprocess.run(command, check=True)
    spec = importlib.util.spec_from_file_location(name, module)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found
