"""Entry point of ``dyncdc`` and ``python -m dyncdc``."""

from __future__ import annotations

import os
import sys

from .cli.main import run_cli


def main() -> None:
    """Run the command line and leave with its exit code."""
    _fill_standard_streams()
    sys.exit(run_cli(sys.argv[1:]))


def _fill_standard_streams() -> None:
    """Open standard streams that our parent closed: else the next socket takes the number, and the log goes into it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))


if __name__ == "__main__":
    main()
