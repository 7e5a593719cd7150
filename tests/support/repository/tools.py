"""The tools that check deploy/: of `make tools`, else the machine's; a test that needs a missing one is skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
OURS = ROOT / ".tools" / "bin"


def tool(name: str) -> str:
    """The path of an executable. Skips the test where there is none."""
    found = shutil.which(name, path=f"{OURS}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip(f"no {name} here: `make tools`, or the machine's own package")
    return found


def ran(name: str, *arguments: str | Path, stdin: str | None = None) -> str:
    """Run a tool that must find nothing wrong; return all it said."""
    return _ran(tool(name), *map(str, arguments), stdin=stdin)


def ran_python(*arguments: str | Path, stdin: str | None = None) -> str:
    """Run Python with the packages of `make tools`, as ``ran`` does."""
    if not (OURS / "python").exists():
        pytest.skip("no packages of `make tools` here")
    return _ran(str(OURS / "python"), *map(str, arguments), stdin=stdin)


def _ran(*command: str, stdin: str | None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, input=stdin, timeout=60, check=False)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr
