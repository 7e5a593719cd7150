"""Whether a compiled module was built from the C sources that this Python code goes with.

One that was not, as after an update of a checkout without a build, gives wrong results or none: it is not used.
"""

from __future__ import annotations

from types import ModuleType
from typing import Final

VERSION: Final = 2
"""As ``DYNCDC_VERSION`` in version.h."""


class OtherBuildError(ImportError):
    """A compiled module is there, but of other sources."""


def demand_version(module: ModuleType) -> None:
    """Raise OtherBuildError for a module that was not built from these sources."""
    found = getattr(module, "VERSION", None)
    if found != VERSION:
        raise OtherBuildError(f"importing {module.__name__}: it has version {found}, and {VERSION} is needed")


def why_missing(error: ImportError) -> str:
    """Say to a person why a compiled module is not used, and what to do."""
    if isinstance(error, OtherBuildError):
        return "it was built from other sources than this version's; install dyncdc again"
    return "install a C compiler, then dyncdc again"
