"""Exit codes and the one line on stderr that goes with them. The class of an error decides; its text never does."""

from __future__ import annotations

import sys
import traceback

from dyncdc.errors import ConfigError, DyncdcError
from dyncdc.telemetry.log_lines import LogLines

DONE = 0
FATAL = 1
USAGE = 2
CHECK_FAILED = 3
DIFFERENT = 4
CRASHED = 70
"""Of a worker only: it ended by an error of its own making; its supervisor starts it again. Source: sysexits.h."""


def exit_code(error: BaseException, *, worker: bool = False) -> int:
    """The code a supervisor sees: 2 means that restarting cannot help. ``worker``: the supervisor is our own."""
    if isinstance(error, ConfigError):
        return USAGE
    return CRASHED if worker and not isinstance(error, DyncdcError) else FATAL


def complain(error: BaseException, *, debug: bool) -> None:
    """Say on one line what failed, where, and what to do. ``debug`` adds the traceback."""
    lines = LogLines(sys.stderr)  # which may be full or gone: the exit code must stand all the same
    if debug:
        lines.write("".join(traceback.format_exception(error)))
    if isinstance(error, DyncdcError):
        text = " ".join(str(error).split())
        hint = " ".join(error.hint.split())
    else:
        text = f"unexpected {type(error).__name__}"
        hint = "" if debug else "run it again with --debug and report what it prints"
    lines.write(f"dyncdc: {text}{f'; {hint}' if hint else ''}\n")
